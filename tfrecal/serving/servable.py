"""Servable: one loaded version of a model."""
from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import predict_pb2

from tfrecal.serving import op_libraries
from tfrecal.serving.errors import ServingError, invalid
from tfrecal.serving.tensor_protos import dtype_of, from_proto, to_proto

DEFAULT_SIGNATURE = "serving_default"
METHODS = tuple(f"tensorflow/serving/{name}"
                for name in ("predict", "classify", "regress"))
# Sets of outputs come from clients: more than these are not kept.
_MAX_CALLABLES = 256


class Servable:
    """A SavedModel in a session of its own, loaded as the real server does.

    Only signatures run; nothing of it is TensorFlow 2's.

    Args:
        folder: of the version.
        name: of the model.
        version: its number.
        tags: of the graph in the SavedModel.
        tensor_content: outputs go into `tensor_content`.
        check_method: whether requests must fit a signature's method.
        session_config: a `ConfigProto`, or None.
        batcher: a `Batcher` that runs requests together, or None.

    Attributes:
        signatures: name -> `SignatureDef`, as they are in the file.

    Raises:
        ServingError: it cannot be loaded.
    """

    def __init__(self, folder, name: str, version: int, *,
                 tags: tuple = ("serve",), tensor_content: bool = False,
                 check_method: bool = False, session_config=None,
                 batcher=None):
        self.folder, self.name, self.version = Path(folder), name, version
        self._tensor_content = tensor_content
        self._batcher = batcher
        self.check_method = check_method
        self._callables = {}
        self._lock = threading.Lock()
        op_libraries.load()
        if not (self.folder / "saved_model.pb").is_file():
            raise ServingError(
                StatusCode.NOT_FOUND, "Specified file path does not appear to "
                "contain a SavedModel bundle (should have a file called "
                f"`saved_model.pb`): {self.folder}")
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(
            graph=graph, config=session_config)
        try:
            with graph.as_default():
                meta = tf.compat.v1.saved_model.load(
                    self._session, list(tags), str(self.folder))
            self.signatures = dict(meta.signature_def)
            self._defaults = {
                name: {alias: from_proto(proto, alias)
                       for alias, proto in signature.defaults.items()}
                for name, signature in self.signatures.items()}
        except Exception as error:
            self.close()
            raise op_libraries.load_error(error, self.folder) from error

    def predict(self, request: predict_pb2.PredictRequest,
                timeout: float | None = None) -> predict_pb2.PredictResponse:
        """Answers a Predict request.

        Args:
            request: its model and version are taken as looked up.
            timeout: seconds that the run may take.

        Raises:
            ServingError: as TensorFlow Serving answers it.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = self.signature(name)
        if self.check_method and signature.method_name not in METHODS:
            raise ServingError(
                StatusCode.INTERNAL, "Expected prediction signature "
                f"method_name to be one of {{{', '.join(METHODS)}}}. "
                f"Was: {signature.method_name}")
        self._check_aliases(name, request.inputs.keys())
        inputs = {alias: from_proto(proto, alias)
                  for alias, proto in request.inputs.items()}
        found = self._run(name, inputs, request.output_filter, timeout)
        response = predict_pb2.PredictResponse()
        spec = response.model_spec
        spec.name, spec.signature_name = self.name, name
        spec.version.value = self.version
        for alias, array in found.items():
            to_proto(array, response.outputs[alias], self._tensor_content)
        return response

    def run(self, signature_name: str, inputs: dict[str, np.ndarray],
            outputs=None, timeout: float | None = None
            ) -> dict[str, np.ndarray]:
        """Runs a signature.

        Args:
            signature_name: in `signatures`.
            inputs: alias -> array; strings are bytes in an object array.
                Those with a default may be left out.
            outputs: aliases, or None (or none) for all.
            timeout: seconds, or None.

        Returns:
            Alias -> array.

        Raises:
            ServingError: as the session fails.
        """
        self.signature(signature_name)
        self._check_aliases(signature_name, inputs.keys())
        return self._run(signature_name, inputs, outputs, timeout)

    def signature(self, name: str):
        """The SignatureDef of that name.

        Raises:
            ServingError: FAILED_PRECONDITION if there is none.
        """
        try:
            return self.signatures[name]
        except KeyError:
            raise ServingError(
                StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found.') from None

    def close(self) -> None:
        """Frees the session. No call may be running."""
        self._callables.clear()
        self._session.close()

    def _check_aliases(self, name, given):
        """The inputs, with the defaults, must be those of the signature."""
        signature, defaults = self.signatures[name], self._defaults[name]
        wanted = signature.inputs.keys()
        extra, missing = given - wanted, wanted - given
        if len(given) > len(wanted) or (missing and not extra
                                        and not defaults):
            raise invalid(
                f"input size does not match signature: {len(given)}!="
                f"{len(wanted)} len({_names(given)}) != "
                f"len({_names(wanted)}). Sent extra: {_names(extra)}. "
                f"Missing but required: {_names(missing)}.")
        for alias in sorted(missing - defaults.keys()):
            raise invalid(
                f"Signature input alias: {alias}(feed name: "
                f"{signature.inputs[alias].name}) not found in request and "
                "no default value provided. Inputs expected to be in the "
                f"request {_names(given)}, or default input alias set: "
                f"{_names(defaults)}.")
        if extra:
            raise invalid(
                "Inputs contains invalid name. Used request inputs: "
                f"{_names(given & wanted)}, request input: {_names(given)}")

    def _run(self, name, inputs, outputs, timeout):
        signature = self.signatures[name]
        aliases = _outputs(signature, outputs)
        feed = self._feed(name, inputs)

        def call(arrays, seconds):
            function = self._callable(name, aliases, _bucket(seconds))
            try:
                return [_array(value) for value in function(*arrays)]
            except Exception as error:
                raise ServingError.of(error) from error

        found = call(feed, timeout) if self._batcher is None else \
            self._batcher.run((self, name, aliases), call, feed, timeout)
        return dict(zip(aliases, found))

    def _feed(self, name, inputs):
        """Arrays in the order of the signature's aliases."""
        feed = []
        for n, (alias, info) in enumerate(
                sorted(self.signatures[name].inputs.items())):
            array = inputs.get(alias)
            if array is None:
                array = self._defaults[name][alias]
            kind = dtype_of(array)
            if kind != info.dtype:
                raise invalid(
                    f"Expects arg[{n}] to be {tf.as_dtype(info.dtype).name} "
                    f"but {tf.as_dtype(kind).name} is provided")
            feed.append(array)
        return feed

    def _callable(self, name, aliases, milliseconds):
        key = (name, aliases, milliseconds)
        function = self._callables.get(key)
        if function is None:
            with self._lock:
                if len(self._callables) >= _MAX_CALLABLES:
                    self._callables.clear()
                function = self._callables[key] = self._make(*key)
        return function

    def _make(self, name, aliases, milliseconds):
        """A session's callable; six times as quick as `Session.run`.

        Without a limit it runs in the thread of the caller, which saves
        half of its time; there, TensorFlow does not look at limits.
        """
        signature = self.signatures[name]
        options = config_pb2.CallableOptions(
            feed=[info.name for _, info in sorted(signature.inputs.items())],
            fetch=[signature.outputs[alias].name for alias in aliases])
        if milliseconds:
            options.run_options.timeout_in_ms = milliseconds
        else:
            options.run_options.inter_op_thread_pool = -1
        return self._session._make_callable_from_options(options)


def _array(value) -> np.ndarray:
    """An output of the session; single values are no arrays there."""
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, object if isinstance(value, bytes) else None)


def _outputs(signature, aliases) -> tuple:
    if not aliases:
        return tuple(sorted(signature.outputs))
    for n, alias in enumerate(aliases):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs "
                "expected to be in the set "
                f"{_names(signature.outputs)}.")
        if alias in aliases[:n]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return tuple(sorted(aliases))


def _bucket(timeout: float | None) -> int:
    """Milliseconds, rounded up so that there are few callables."""
    if timeout is None:
        return 0
    if timeout <= 0:
        raise ServingError(StatusCode.DEADLINE_EXCEEDED,
                           "The deadline is over before the run.")
    return 1 << int(1000 * timeout).bit_length() if timeout < 1e6 else 0


def _names(aliases) -> str:
    return "{" + ",".join(sorted(aliases)) + "}"
