"""Settings that follow from the server's flags and the files they name."""
from __future__ import annotations

import os

import grpc
from tensorflow.core.protobuf import config_pb2

from tfrecal.serving.server import config_protos
from tfrecal.serving.server.errors import invalid
from tfrecal.serving.server.model_configs import read_text_proto

_MONITORING_PATH = "/monitoring/prometheus/metrics"
# Bytes of a request, unless `--grpc_channel_arguments` says otherwise.
_LARGEST_REQUEST = 64 << 20


def read(path: str, message):
    """Fills the message from a file, if a path is given, and returns it."""
    return read_text_proto(path, message) if path else message


def check(options) -> None:
    """Checks flags that need each other or exclude each other.

    Raises:
        ServingError: INVALID_ARGUMENT for flags that do not fit together.
    """
    if options.port == 0 and not options.grpc_socket_path:
        raise invalid("Either `--port` or `--grpc_socket_path` must be set. "
                      "Received: neither.")
    if not (options.model_base_path or options.model_config_file):
        raise invalid("Either `--model_base_path` or `--model_config_file` "
                      "must be set. Received: neither.")
    if options.batching_parameters_file and not options.enable_batching:
        raise invalid("`--batching_parameters_file` must come with "
                      "`--enable_batching`. Received: the file only.")


def grpc_threads(options) -> int:
    """Returns the number of threads that answer.

    Few threads are faster than many, because Python runs one at a time.
    Batching needs more, because requests wait for their batch in threads.
    """
    cpus = os.cpu_count() or 1
    return options.grpc_max_threads or (
        4 * cpus if options.enable_batching else cpus + 1)


def session_config(options) -> config_pb2.ConfigProto:
    """Returns the config of every version's session."""
    config = read(options.tensorflow_session_config_file,
                  config_pb2.ConfigProto())
    both = options.tensorflow_session_parallelism
    intra = options.tensorflow_intra_op_parallelism or both
    inter = options.tensorflow_inter_op_parallelism or both
    if intra:
        config.intra_op_parallelism_threads = intra
    if inter:
        config.inter_op_parallelism_threads = inter
    if options.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = \
            options.per_process_gpu_memory_fraction
    return config


def monitoring_path(options) -> str | None:
    """Returns the HTTP path of the metrics, or None without metrics."""
    config = read(options.monitoring_config_file,
                  config_protos.MonitoringConfig()).prometheus_config
    return (config.path or _MONITORING_PATH) if config.enable else None


def credentials(options) -> grpc.ServerCredentials | None:
    """Returns the credentials of `--ssl_config_file`, which holds PEM text.

    Raises:
        ServingError: INVALID_ARGUMENT for a file that lacks a field.
    """
    path = options.ssl_config_file
    if not path:
        return None
    config = read(path, config_protos.SSLConfig())
    if not (config.server_key and config.server_cert):
        raise invalid(f"{path} must hold `server_key` and `server_cert` as "
                      "PEM text. Received: one that is empty.")
    if config.client_verify and not config.custom_ca:
        raise invalid(f"{path} must hold `custom_ca` where `client_verify` is "
                      "set. Received: none.")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify)


def channel_arguments(options) -> list[tuple]:
    """Returns the options of the gRPC server.

    Raises:
        ServingError: INVALID_ARGUMENT for an item without `=`.
    """
    # Without the first, a second server on the port would go unnoticed.
    found = {"grpc.so_reuseport": 0,
             "grpc.max_receive_message_length": _LARGEST_REQUEST}
    for part in filter(None, options.grpc_channel_arguments.split(",")):
        name, sign, value = part.partition("=")
        if not sign:
            raise invalid("`--grpc_channel_arguments` must be k=v,k2=v2. "
                          f"Received: {part!r}.")
        found[name.strip()] = int(value) if value.lstrip("-").isdecimal() \
            else value
    return list(found.items())
