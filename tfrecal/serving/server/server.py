"""Server: a drop-in for `tensorflow_model_server` in one Python process."""
from __future__ import annotations

import logging
import signal
import sys
import threading
from concurrent import futures

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from tfrecal.serving.server import config_protos, model_configs, settings
from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.flags import options_of, parse_flags
from tfrecal.serving.server.grpc_services import ModelService, PredictionService
from tfrecal.serving.server.manager import ModelManager
from tfrecal.serving.server.servable import Servable
from tfrecal.serving.server.warm_up import warm_up

__all__ = ["Server", "main", "options_of", "parse_flags"]

_log = logging.getLogger("tfrecal.serving")


class Server:
    """Serves models on a gRPC port and, if asked for, on a REST port.

    Args:
        options: what `parse_flags` or `options_of` returned. A `port` or
            `rest_api_port` of 0 is off; None picks a free port.

    Raises:
        ServingError: options or files do not fit together.

    Example:
        >>> server = Server(options_of(port=None, model_base_path="/m/shop"))
        >>> server.start()
        >>> server.grpc_port
    """

    def __init__(self, options):
        self.options = options
        self.grpc_port = self.rest_port = None
        settings.check(options)
        options.monitoring_path = settings.monitoring_path(options)
        self._monitor = None
        if options.monitoring_path is not None:
            from tfrecal.serving.server.monitoring import Monitor
            self._monitor = Monitor()
        self._credentials = settings.credentials(options)
        self._arguments = settings.channel_arguments(options)
        self._session_config = settings.session_config(options)
        self._config = self._read_config()
        self._batcher = None
        if options.enable_batching:
            from tfrecal.serving.server.batching import Batcher
            self._batcher = Batcher(settings.read(
                options.batching_parameters_file,
                config_protos.BatchingParameters()))
        self.manager = ModelManager(
            self._config,
            poll_seconds=options.file_system_poll_wait_seconds,
            max_load_retries=options.max_num_load_retries,
            retry_seconds=options.load_retry_interval_micros / 1e6,
            load_threads=options.num_load_threads or 2,
            allow_early_labels=(
                options.allow_version_labels_for_unavailable_models),
            load=self._load)
        self._grpc = self._rest = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Loads the models, then opens the ports.

        Raises:
            ServingError: UNAVAILABLE for a port that cannot be opened.
        """
        try:
            self.manager.start()
            self._start_grpc()
            self._start_rest()
        except Exception:
            self.stop(0)
            raise
        if self.options.model_config_file \
                and self.options.model_config_file_poll_wait_seconds > 0:
            threading.Thread(target=self._poll_config, daemon=True,
                             name="tfrecal-config").start()

    def wait(self) -> None:
        """Waits until the server is stopped."""
        self._stopped.wait()

    def stop(self, grace: float = 10) -> None:
        """Takes no more requests, ends those under way and unloads.

        Args:
            grace: seconds for the requests under way.
        """
        if self._rest is not None:
            self._rest.stop()
        if self._grpc is not None:
            self._grpc.stop(grace).wait()
        self.manager.stop()
        if self._batcher is not None:
            self._batcher.stop()
        self._stopped.set()

    def describe(self) -> str:
        """Returns addresses, models and their versions in one line."""
        where = [f"gRPC on port {self.grpc_port}"] if self.grpc_port else []
        if self.options.grpc_socket_path:
            where.append(f"gRPC on {self.options.grpc_socket_path}")
        if self.rest_port:
            where.append(f"REST on port {self.rest_port}")
        models = [f"{name} {', '.join(map(str, found)) or '(no version)'}"
                  for name, found in self.manager.available().items()]
        return f"Serving {'; '.join(models) or 'no model'}: " \
            f"{', '.join(where)}"

    def _load(self, folder, name, version):
        options = self.options
        servable = Servable(
            folder, name, version, batcher=self._batcher,
            tags=tuple(options.saved_model_tags.split(",")),
            tensor_content=options.enable_serialization_as_tensor_content,
            check_method=options.enable_signature_method_name_check,
            session_config=self._session_config)
        if options.enable_model_warmup:
            try:
                warm_up(servable, options.num_request_iterations_for_warmup)
            except Exception:
                servable.close()
                raise
        return servable

    def _start_grpc(self) -> None:
        options = self.options
        self._grpc = server = grpc.server(
            futures.ThreadPoolExecutor(
                settings.grpc_threads(options), "grpc"),
            options=self._arguments,
            maximum_concurrent_rpcs=options.max_concurrent_requests)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(self.manager, self._monitor), server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(self.manager), server)
        if options.enable_grpc_healthcheck_service:
            _add_health(server)
        if options.port != 0:
            self.grpc_port = self._listen(f"0.0.0.0:{options.port or 0}")
        if options.grpc_socket_path:
            self._listen(f"unix:{options.grpc_socket_path}")
        server.start()

    def _listen(self, address: str) -> int:
        try:
            if self._credentials is None:
                return self._grpc.add_insecure_port(address)
            return self._grpc.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise ServingError(
                grpc.StatusCode.UNAVAILABLE,
                f"The server must be able to listen on {address}. {error} "
                "Choose another `--port`.") from error

    def _start_rest(self) -> None:
        options = self.options
        if options.rest_api_port == 0:
            return
        if options.rest_api_port == options.port is not None:
            _log.warning("`--rest_api_port` is that of gRPC: no REST.")
            return
        from tfrecal.serving.server.rest.http import RestServer
        self._rest = RestServer(self.manager, self._monitor, options)
        self._rest.start()
        self.rest_port = self._rest.port

    def _read_config(self):
        options = self.options
        if options.model_config_file:
            return settings.read(
                options.model_config_file,
                model_server_config_pb2.ModelServerConfig())
        return model_configs.single(options.model_name,
                                    options.model_base_path)

    def _poll_config(self) -> None:
        wait = self.options.model_config_file_poll_wait_seconds
        told = None
        while not self._stopped.wait(wait):
            try:
                config = self._read_config()
                if config != self._config:
                    self.manager.reload(config)
                    self._config = config
                told = None
            except Exception as error:
                if str(error) != told:
                    told = str(error)
                    _log.error("%s: %s", self.options.model_config_file, told)


def main(argv=None) -> int:
    """Runs a server until SIGTERM or SIGINT.

    Args:
        argv: flags, without the program's name.

    Returns:
        The exit code.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stderr,
                        format="%(asctime)s %(levelname)s %(message)s")
    tf.get_logger().setLevel(logging.ERROR)
    try:
        options = parse_flags(argv)
        server = Server(options)
    except SystemExit as stop:
        return stop.code
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 2
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    try:
        server.start()
    except ServingError as error:
        print(f"Failed to start server. Error: {error}", file=sys.stderr)
        return 1
    for problem in server.manager.problems().values():
        _log.warning("no version is served of %s", problem)
    print(server.describe(), flush=True)
    asked.wait()
    # A second signal ends it without waiting for the requests under way.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    server.stop()
    return 0


def _add_health(server) -> None:
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    servicer = health.HealthServicer()
    for name in ("", "ModelService", "PredictionService"):
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)


if __name__ == "__main__":
    sys.exit(main())
