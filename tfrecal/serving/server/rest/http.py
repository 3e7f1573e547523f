"""RestServer: the REST interface and the metrics on an HTTP port."""
from __future__ import annotations

import gzip
import io
import json
import logging
import socket
import threading
import time
import zlib
from http import HTTPStatus

from grpc import StatusCode

from tfrecal.serving.server.errors import ServingError, invalid
from tfrecal.serving.server.rest.api import RestApi, RestRequest

try:
    import waitress
except ImportError as error:
    raise ImportError(
        "The REST port needs waitress: pip install '.[serving]'."
    ) from error

_HTTP = {
    "OK": 200, "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429, "CANCELLED": 499, "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}
_CORS = [("Access-Control-Allow-Origin", "*"),
         ("Access-Control-Allow-Methods", "POST, GET"),
         ("Access-Control-Allow-Headers", "Content-Type")]
_NOT_FOUND = (b"<html><head><title>404 Not Found</title></head>"
              b"<body><h1>Not Found</h1></body></html>\n")
_MAX_BODY = 100 << 20
# A body below this size stays in memory, so that most bodies need no disk.
_IN_MEMORY = 16 << 20
_MAX_CONNECTIONS = 500
_IDLE_SECONDS = 60
_STOP_SECONDS = 10
_log = logging.getLogger("tfrecal.serving")


class RestServer:
    """Serves `/v1/models/...` and the metrics over HTTP.

    One thread reads all connections and hands whole requests to the
    workers, so a client that stops sending keeps no other waiting.

    Args:
        manager: a started `ModelManager`.
        monitor: a `Monitor`, or None to count nothing.
        options: has `rest_api_port` (None: a free one),
            `rest_api_timeout_in_ms`, `rest_api_num_threads`,
            `rest_api_enable_cors_support` and `monitoring_path` (None: the
            metrics are not served).

    Attributes:
        port: the port where it listens; None before `start`.
    """

    def __init__(self, manager, monitor, options):
        self.manager, self.monitor, self.options = manager, monitor, options
        self.port = None
        self._api = RestApi(manager, options.rest_api_timeout_in_ms / 1000)
        self._server = None

    def start(self) -> None:
        """Opens the port.

        Raises:
            ServingError: UNAVAILABLE if the port cannot be had.
        """
        listener = _listener(self.options.rest_api_port or 0)
        # It warns of each request that waits for a worker.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._server = waitress.create_server(
            self._respond, sockets=[listener], ident="tfrecal",
            threads=self.options.rest_api_num_threads,
            connection_limit=_MAX_CONNECTIONS, asyncore_use_poll=True,
            channel_timeout=_IDLE_SECONDS, recv_bytes=1 << 16,
            max_request_body_size=_MAX_BODY, inbuf_overflow=_IN_MEMORY,
            outbuf_overflow=_MAX_BODY, log_socket_errors=False)
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.run, name="tfrecal-rest", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answers the requests that run, then closes the port."""
        if self._server is None:
            return
        server, self._server = self._server, None

        def refuse():
            server.accepting = False

        def close():
            for channel in list(server.active_channels.values()):
                channel.close_when_flushed = True
            server.close()

        # Only the thread that polls the sockets may touch them.
        server.trigger.pull_trigger(refuse)
        server.task_dispatcher.shutdown(timeout=_STOP_SECONDS)
        server.trigger.pull_trigger(close)
        self._thread.join(_STOP_SECONDS)

    def _respond(self, environ, start_response):
        path, metrics = environ["REQUEST_URI"], self.options.monitoring_path
        if path.lower().startswith("/v1/"):
            status, body = self._respond_api(path, environ)
            kind = "application/json"
        elif metrics and path.split("?")[0] == metrics:
            status, body = self._respond_metrics(path, metrics)
            kind = "text/plain"
        else:
            status, body, kind = 404, _NOT_FOUND, "text/html"
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        if self.options.rest_api_enable_cors_support:
            headers += _CORS
        reason = ("Client Closed Request" if status == 499
                  else HTTPStatus(status).phrase)
        start_response(f"{status} {reason}", headers)
        # A body after HEAD would be taken for the start of the next answer.
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _respond_metrics(self, path: str, expected: str):
        if path == expected:
            return 200, self.monitor.text().encode()
        text = f"Unexpected path: {path}. Should be {expected}"
        return 400, text.encode("latin-1")

    def _respond_api(self, path: str, environ) -> tuple[int, bytes]:
        method = environ["REQUEST_METHOD"]
        if method == "OPTIONS":
            origin = environ.get("HTTP_ORIGIN", "")
            known = "http://" in origin or "https://" in origin
            return 200 if known else 400, b""
        started, code = time.perf_counter(), StatusCode.OK
        request = RestRequest(method, path)
        try:
            body = self._api.answer(request, _body(environ))
        except Exception as failure:
            error = ServingError.of(failure)
            code = error.code
            if code in (StatusCode.INTERNAL, StatusCode.UNKNOWN):
                _log.error("%s", error, exc_info=failure)
            # The real server fails here before it makes the JSON.
            body = b"" if request.version_too_large \
                else _error_json(error.message)
        if self.monitor is not None:
            self.monitor.request(
                request.name, request.verb, "REST", code.name,
                time.perf_counter() - started)
        return _HTTP.get(code.name, 500), body


def _listener(port: int) -> socket.socket:
    """Returns a socket for IPv6 and IPv4; without IPv6, for IPv4 only."""
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(
            ("", port), dualstack_ipv6=both,
            family=socket.AF_INET6 if both else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise ServingError(
            StatusCode.UNAVAILABLE,
            f"The server must be able to listen on port {port}. {error} "
            "Choose another `--rest_api_port`.") from error


def _body(environ) -> bytes:
    """Returns the request's body, unpacked.

    Raises:
        ServingError: INVALID_ARGUMENT for a body that cannot be unpacked,
            RESOURCE_EXHAUSTED for one of more than 100 MB.
    """
    body = environ["wsgi.input"].read()
    if environ.get("HTTP_CONTENT_ENCODING", "").lower() != "gzip":
        return body
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
            body = packed.read(_MAX_BODY + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise invalid("A body with `Content-Encoding: gzip` must be gzip "
                      f"data. Received: {error}.") from error
    if len(body) > _MAX_BODY:
        raise ServingError(
            StatusCode.RESOURCE_EXHAUSTED,
            f"An unpacked body must have at most {_MAX_BODY} bytes. "
            "Received: more.")
    return body


def _error_json(message: str) -> bytes:
    """Writes an error as ASCII, whatever the message quotes."""
    return f'{{\n    "error": {json.dumps(message)}\n}}'.encode()
