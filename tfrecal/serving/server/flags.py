"""The flags of `tensorflow_model_server`, with its names and defaults."""
from __future__ import annotations

import argparse
import os
import sys

import tfrecal

_CPUS = os.cpu_count() or 1
# name -> (type, default); 0 threads let the server choose their number.
_FLAGS = {
    "port": (int, 8500), "grpc_socket_path": (str, ""),
    "rest_api_port": (int, 0), "rest_api_num_threads": (int, 4 * _CPUS),
    "rest_api_timeout_in_ms": (int, 30000),
    "rest_api_enable_cors_support": (bool, False),
    "grpc_max_threads": (int, 0),
    "model_name": (str, "default"), "model_base_path": (str, ""),
    "model_config_file": (str, ""),
    "model_config_file_poll_wait_seconds": (float, 0),
    "file_system_poll_wait_seconds": (float, 1),
    "max_num_load_retries": (int, 5),
    "load_retry_interval_micros": (int, 60_000_000),
    "num_load_threads": (int, 0),
    "enable_batching": (bool, False), "batching_parameters_file": (str, ""),
    "allow_version_labels_for_unavailable_models": (bool, False),
    "enable_model_warmup": (bool, True),
    "num_request_iterations_for_warmup": (int, 0),
    "monitoring_config_file": (str, ""), "ssl_config_file": (str, ""),
    "grpc_channel_arguments": (str, ""),
    "enable_grpc_healthcheck_service": (bool, False),
    "saved_model_tags": (str, "serve"),
    "enable_signature_method_name_check": (bool, False),
    "enable_serialization_as_tensor_content": (bool, False),
    "tensorflow_session_parallelism": (int, 0),
    "tensorflow_intra_op_parallelism": (int, 0),
    "tensorflow_inter_op_parallelism": (int, 0),
    "tensorflow_session_config_file": (str, ""),
    "per_process_gpu_memory_fraction": (float, 0),
    # Not one of TensorFlow Serving's.
    "max_concurrent_requests": (int, 1000)}
# Flags that are accepted and have no effect: this server lacks what they set.
_UNUSED = (
    "use_alts_credentials", "flush_filesystem_caches", "num_unload_threads",
    "enable_per_model_batching_parameters", "platform_config_file",
    "prefer_tflite_model", "num_tflite_pools",
    "num_tflite_interpreters_per_pool", "enable_profiler",
    "remove_unused_fields_from_bundle_metagraph",
    "xla_cpu_compilation_enabled", "xla_gpu_compilation_enabled",
    "thread_pool_factory_config_file", "mixed_precision",
    "skip_initialize_tpu")
_AT_LEAST = {"grpc_max_threads": 0, "rest_api_num_threads": 1, "port": 0,
             "rest_api_port": 0, "max_concurrent_requests": 1,
             "max_num_load_retries": 0, "load_retry_interval_micros": 0,
             "rest_api_timeout_in_ms": 1, "num_load_threads": 0}


def parse_flags(argv=None) -> argparse.Namespace:
    """Reads the options of `server.Server` from a command line.

    Unknown flags, and those without a meaning here, are named on stderr.

    Args:
        argv: the flags, without the program's name; None for the flags of
            this process.

    Raises:
        SystemExit: 2 for a bad value, 0 for `--help` and `--version`.
    """
    parser = argparse.ArgumentParser(
        "tfrecal serve", allow_abbrev=False,
        description="A model server for tests and small deployments, with "
        "the flags and interfaces of tensorflow_model_server.")
    parser.add_argument("--version", action="version",
                        version=f"tfrecal {tfrecal.__version__}")
    for name, (kind, default) in _FLAGS.items():
        if kind is bool:
            parser.add_argument(f"--{name}", type=_boolean, nargs="?",
                                const=True, default=default)
        else:
            parser.add_argument(f"--{name}", type=kind, default=default,
                                help=f"default: {default!r}")
    for name in _UNUSED:
        parser.add_argument(f"--{name}", nargs="?", default=None, const="",
                            help=argparse.SUPPRESS)
    options, unknown = parser.parse_known_args(argv)
    for name, least in _AT_LEAST.items():
        if getattr(options, name) < least:
            parser.error(f"`--{name}` must be at least {least}. "
                         f"Received: {getattr(options, name)}.")
    for name in _UNUSED:
        if getattr(options, name) is not None:
            print(f"`--{name}` has no meaning for this server.",
                  file=sys.stderr)
        delattr(options, name)
    for argument in unknown:
        print(f"Unknown flag, not used: {argument}", file=sys.stderr)
    return options


def options_of(**flags) -> argparse.Namespace:
    """Returns the default options with some flags set.

    Args:
        **flags: values by name; `port=None` picks a free port.

    Raises:
        TypeError: a name is no flag.
    """
    options = parse_flags([])
    for name, value in flags.items():
        if not hasattr(options, name):
            raise TypeError(f"`{name}` must be a flag of the server.")
        setattr(options, name, value)
    return options


def _boolean(text: str) -> bool:
    found = {"true": True, "1": True, "false": False, "0": False}.get(
        text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"true or false, not {text!r}")
    return found
