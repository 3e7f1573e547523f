"""Connection: Predict requests to one address, and what can go wrong."""
from __future__ import annotations

import collections
import json
from dataclasses import dataclass
from pathlib import Path

import grpc

from tfrecal import checks
from tfrecal.serving.client import wire

_SERVICE = "tensorflow.serving.PredictionService"
# Requests of a large batch that are under way together: a server has few
# threads, and other clients.
_AT_ONCE = 4
# gRPC's own retries. Predict changes nothing, so one that was not answered
# may be sent again, four times in 1.7 s; backoff ends with the deadline, and
# stops altogether while most requests fail.
_RETRIES = json.dumps({
    "methodConfig": [{
        "name": [{"service": _SERVICE}],
        "retryPolicy": {
            "maxAttempts": 5, "initialBackoff": "0.05s", "maxBackoff": "1s",
            "backoffMultiplier": 3,
            "retryableStatusCodes": ["UNAVAILABLE"]}}],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
    # All addresses of a name: replicas behind a Kubernetes service.
    "loadBalancingConfig": [{"round_robin": {}}]})
_OPTIONS = (
    ("grpc.service_config", _RETRIES),
    ("grpc.max_receive_message_length", -1),
    ("grpc.per_rpc_retry_buffer_size", 4 << 20),
    # A peer that went away is noticed. Only beside requests and seldom:
    # servers hang up on those who ping more.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000))
_CALLERS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE,
            grpc.StatusCode.FAILED_PRECONDITION}
_CURES = {
    "INVALID_ARGUMENT": "`tfrecal recommend --explain-request` shows a "
                        "request that is accepted; an export of an older "
                        "tfrecal takes fewer inputs.",
    "FAILED_PRECONDITION": "Export the model with what the call needs: "
                           "texts to search, ratings to score. An export of "
                           "an older tfrecal must be made anew.",
    "NOT_FOUND": "Check `model` and `version`, or wait until it is loaded.",
    "UNAVAILABLE": "Check that a server listens at `address`, and `tls`.",
    "DEADLINE_EXCEEDED": "Raise `timeout` (seconds) or lower `max_batch`.",
    "RESOURCE_EXHAUSTED": "Lower `max_batch`, or ask again later.",
    "UNIMPLEMENTED": "`address` must be the gRPC port of TensorFlow Serving."}
_TOKENS = ("Where its texts are tokenised by the client, give `tokenizer` "
           "(`--tokenizer`), the folder of its export.")


class ServingUnavailable(RuntimeError):
    """The server did not answer; the request itself was not at fault.

    Args:
        message: what must hold, what arrived, the cure.
        code: a `grpc.StatusCode`.
    """

    def __init__(self, message: str, code: grpc.StatusCode):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class TLS:
    """Encryption, by PEM files.

    Args:
        roots: file of the certificates that sign the server's; None for
            those that gRPC brings along.
        certificate: the client's own, for servers that ask for one.
        key: file of the key of `certificate`.

    Raises:
        ValueError: a certificate without its key, or a file that cannot be
            read.
    """

    roots: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self):
        if (self.certificate is None) != (self.key is None):
            raise ValueError(
                "`certificate` and `key` must be given together. Received: "
                f"certificate={self.certificate!r}, key={self.key!r}.")

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns what `grpc.secure_channel` takes."""
        return grpc.ssl_channel_credentials(
            _pem("roots", self.roots), _pem("key", self.key),
            _pem("certificate", self.certificate))


class Connection:
    """A channel that is opened at the first request and kept.

    Args:
        address: "host:port", or "unix:/path".
        timeout: seconds for each request, retries included.
        tls: a `TLS`; None sends everything in the clear.
    """

    def __init__(self, address: str, timeout: float, tls: TLS | None = None):
        if not _is_address(address):
            raise ValueError(
                "`address` must be host:port or unix:/path. Received: "
                f"address={address!r}. TensorFlow Serving's gRPC port is "
                "8500 by default.")
        checks.positive(timeout=timeout, cure="It is in seconds.")
        self.address, self.timeout = address, timeout
        self._channel = grpc.insecure_channel(address, _OPTIONS) \
            if tls is None else grpc.secure_channel(
                address, tls.credentials(), _OPTIONS)
        self._predict = self._channel.unary_unary(
            f"/{_SERVICE}/Predict",
            wire.PredictRequest.SerializeToString,
            wire.PredictResponse.FromString)

    def predict(self, requests: list) -> list:
        """Sends requests; returns the answers in the same order.

        Args:
            requests: `wire.PredictRequest` messages. Either all of them are
                answered or the call raises.

        Raises:
            ValueError: the server says that a request is wrong.
            ServingUnavailable: it does not answer.
        """
        try:
            if len(requests) == 1:
                return [self._predict(requests[0], timeout=self.timeout)]
            return self._predict_several(requests)
        except grpc.RpcError as error:
            raise self._failure(requests[0], error) from error

    def close(self) -> None:
        """Ends the channel, and requests that are under way."""
        self._channel.close()

    def _predict_several(self, requests) -> list:
        waiting, found = collections.deque(), []
        try:
            for request in requests:
                if len(waiting) == _AT_ONCE:
                    found.append(waiting.popleft().result())
                waiting.append(self._predict.future(
                    request, timeout=self.timeout))
            while waiting:
                found.append(waiting.popleft().result())
        finally:
            for call in waiting:
                call.cancel()
        return found

    def _failure(self, request, error: grpc.RpcError) -> Exception:
        spec, code = request.model_spec, error.code()
        # A server's message may end with a full stop, or not.
        details = (error.details() or "no message").rstrip(".")
        cure = _CURES.get(code.name, "The server's log tells more.")
        if code == grpc.StatusCode.INVALID_ARGUMENT and (
                "text" in request.inputs) and (
                "token_ids" in details or "invalid name" in details):
            cure = _TOKENS
        message = (f"The model {spec.name!r} at {self.address} must answer "
                   f"`{spec.signature_name}`. Received: {code.name}: "
                   f"{details}. {cure}")
        if code in _CALLERS:
            return ValueError(message)
        return ServingUnavailable(message, code)


def _is_address(address) -> bool:
    if not isinstance(address, str) or "://" in address:
        return False
    host, _, port = address.rpartition(":")
    return bool(host and port) and (
        host == "unix" or port.isdecimal() and int(port) < 1 << 16)


def _pem(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"`{name}` must be a PEM file. Received: "
                         f"{name}={str(path)!r}: {error.strerror}.") from error
    if b"-----BEGIN " not in content:
        raise ValueError(f"`{name}` must be a PEM file. Received: "
                         f"{name}={str(path)!r}, which holds no block of one.")
    return content
