"""Servable: one loaded version of a model."""
from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from tensorflow_serving.apis import predict_pb2

from tfrecal.serving.manifest import check_whole
from tfrecal.serving.server import op_libraries
from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.session_runs import SessionRun
from tfrecal.serving.server.signature import Signature
from tfrecal.serving.server.tensor_protos import from_proto, to_proto

DEFAULT_SIGNATURE = "serving_default"
METHODS = tuple(f"tensorflow/serving/{name}"
                for name in ("predict", "classify", "regress"))
# Clients choose the sets of outputs: no more session runs than this are kept.
_MAX_SESSION_RUNS = 256


class Servable:
    """A SavedModel in a session of its own, loaded as the real server does.

    Only signatures run; nothing here uses TensorFlow 2's loader.

    Args:
        folder: the version's folder.
        name: the model's name.
        version: the version's number.
        tags: the tags of the graph in the SavedModel.
        tensor_content: whether outputs go into `tensor_content`.
        check_method: whether requests must fit a signature's method.
        session_config: a `ConfigProto`, or None.
        batcher: a `Batcher` that runs requests together, or None.

    Attributes:
        signatures: name -> `SignatureDef`, as in the file.

    Raises:
        ServingError: the version cannot be loaded.
    """

    def __init__(self, folder, name: str, version: int, *,
                 tags: tuple = ("serve",), tensor_content: bool = False,
                 check_method: bool = False, session_config=None,
                 batcher=None):
        self.folder, self.name, self.version = Path(folder), name, version
        self._tensor_content = tensor_content
        self._batcher = batcher
        self.check_method = check_method
        self._session_runs = {}
        self._lock = threading.Lock()
        op_libraries.load()
        if not (self.folder / "saved_model.pb").is_file():
            raise ServingError(
                StatusCode.NOT_FOUND, "Specified file path does not appear to "
                "contain a SavedModel bundle (should have a file called "
                f"`saved_model.pb`): {self.folder}")
        try:
            check_whole(self.folder)
        except ValueError as error:
            raise ServingError(StatusCode.DATA_LOSS, str(error)) from error
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(
            graph=graph, config=session_config)
        try:
            with graph.as_default():
                meta = tf.compat.v1.saved_model.load(
                    self._session, list(tags), str(self.folder))
            self.signatures = dict(meta.signature_def)
            self._read = {name: Signature(definition) for name, definition
                          in self.signatures.items()}
        except Exception as error:
            self.close()
            raise op_libraries.load_error(error, self.folder) from error

    def predict(self, request: predict_pb2.PredictRequest,
                timeout: float | None = None) -> predict_pb2.PredictResponse:
        """Answers a Predict request.

        Args:
            request: a request for this version; its `model_spec` is not
                looked up again.
            timeout: seconds that the session run may take.

        Raises:
            ServingError: the request fails as in TensorFlow Serving.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = self._signature(name)
        if self.check_method and signature.method not in METHODS:
            raise ServingError(
                StatusCode.INTERNAL, "Expected prediction signature "
                f"method_name to be one of {{{', '.join(METHODS)}}}. "
                f"Was: {signature.method}")
        signature.check(set(request.inputs))
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
            signature_name: one of `signatures`.
            inputs: alias -> array; strings are bytes in an object array.
                Inputs with a default may be left out.
            outputs: aliases; None or an empty list for all.
            timeout: seconds, or None.

        Returns:
            Alias -> array.

        Raises:
            ServingError: the session run fails.
        """
        self._signature(signature_name).check(set(inputs))
        return self._run(signature_name, inputs, outputs, timeout)

    def close(self) -> None:
        """Frees the session. No call may be running."""
        self._session_runs.clear()
        self._session.close()

    def _signature(self, name: str) -> Signature:
        try:
            return self._read[name]
        except KeyError:
            raise ServingError(
                StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found.') from None

    def _run(self, name, inputs, outputs, timeout):
        signature = self._read[name]
        aliases = signature.outputs(outputs)
        arrays = signature.feed(inputs)
        key = (name, aliases)
        run = self._session_runs.get(key)
        if run is None:
            run = self._make_session_run(key, signature)
        if self._batcher is None:
            found = run(arrays, timeout)
        else:
            found = self._batcher.run((self, *key), run, arrays, timeout)
        return dict(zip(aliases, found))

    def _make_session_run(self, key, signature) -> SessionRun:
        run = SessionRun(
            self._session, list(signature.feeds.values()),
            [signature.fetches[alias] for alias in key[1]])
        with self._lock:
            if len(self._session_runs) >= _MAX_SESSION_RUNS:
                self._session_runs.clear()
            return self._session_runs.setdefault(key, run)
