"""TensorFlow Serving's REST interface, without HTTP around it."""
from __future__ import annotations

import json
import re
import urllib.parse

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from tfrecal.serving.server import inference
from tfrecal.serving.server.errors import invalid
from tfrecal.serving.server.rest.examples import (
    classification_json,
    examples_input,
    regression_json,
)
from tfrecal.serving.server.rest.predict import (
    parse_request,
    request_arrays,
    signature_name,
)
from tfrecal.serving.server.rest.tensors import response_json
from tfrecal.serving.server.servable import DEFAULT_SIGNATURE

_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
# These match the query too, as in the real server.
_FORMS = {
    "POST": r"/v1/models/(?P<name>[^/:]+)" + _VERSION
    + ":(?P<verb>predict|classify|regress)",
    "GET": r"/v1/models(?:/(?P<name>[^/:]+))?" + _VERSION
    + "(?:/(?P<metadata>metadata))?"}
_PATHS = {method: re.compile(form, re.IGNORECASE | re.ASCII)
          for method, form in _FORMS.items()}
_LARGEST_VERSION = 2 ** 63 - 1


class RestRequest:
    """A request, as its method and path describe it.

    Args:
        method: the HTTP method.
        path: the path with the query, not decoded.

    Attributes:
        name, label: the model and its version label, "" where the path has
            none.
        version: the version's number, or None.
        verb: `predict`, `classify`, `regress` or "".
        metadata: whether the path ends in `/metadata`.
        fault: what is wrong with the request, or None.
    """

    def __init__(self, method: str, path: str):
        match = method in _PATHS and _PATHS[method].fullmatch(path)
        found = match.groupdict() if match else {}
        self.name = urllib.parse.unquote(found.get("name") or "")
        self.label = urllib.parse.unquote(found.get("label") or "")
        digits = found.get("version")
        # `int` raises above 4,300 digits; 20 are too many for int64.
        self.version = digits and int(digits.lstrip("0")[:20] or "0")
        self.verb = found.get("verb") or ""
        # `/METADATA` is the status in the real server.
        self.metadata = found.get("metadata") == "metadata"
        self.fault = None
        if not match or self.verb != self.verb.lower():
            self.fault = f"Malformed request: {method} {path}"
        elif not self.name:
            self.fault = "Missing model name in request."

    @property
    def version_too_large(self) -> bool:
        """Whether the version does not fit into an int64."""
        return (self.version or 0) > _LARGEST_VERSION

    def model_spec(self, signature: str = "") -> model_pb2.ModelSpec:
        """Returns the ModelSpec with which gRPC names the model."""
        spec = model_pb2.ModelSpec(name=self.name, signature_name=signature)
        if self.version is not None:
            spec.version.value = self.version
        elif self.label:
            spec.version_label = self.label
        return spec


class RestApi:
    """Answers REST requests in JSON.

    Args:
        manager: a `ModelManager`.
        timeout: seconds that a run may take.
    """

    def __init__(self, manager, timeout: float):
        self.manager = manager
        self.timeout = timeout

    def answer(self, request: RestRequest, body: bytes) -> bytes:
        """Returns the JSON that answers a request.

        Raises:
            ServingError: the request fails as in TensorFlow Serving.
        """
        if request.version_too_large:
            raise invalid(f"Failed to convert version: {request.version} "
                          "to numeric.")
        if request.fault:
            raise invalid(request.fault)
        if request.verb == "predict":
            return self._predict(request, parse_request(body))
        if request.verb:
            return self._infer(request, parse_request(body))
        if request.metadata:
            return self._metadata(request)
        # A label is ignored, as in GetModelStatus.
        return _json(_dict(get_model_status_pb2.GetModelStatusResponse(
            model_version_status=self.manager.status(
                request.name, request.version))))

    def _predict(self, request: RestRequest, content: dict) -> bytes:
        name = signature_name(content) or DEFAULT_SIGNATURE
        with self.manager.use(request.model_spec()) as servable:
            if name not in servable.signatures:
                raise invalid(f'Serving signature name: "{name}" not found '
                              "in signature def")
            arrays, row = request_arrays(
                content, servable.signatures[name].inputs)
            outputs = servable.run(name, arrays, timeout=self.timeout)
        return response_json(outputs, row)

    def _infer(self, request: RestRequest, content: dict) -> bytes:
        given = {"model_spec": request.model_spec(signature_name(content)),
                 "input": examples_input(content)}
        with self.manager.use(given["model_spec"]) as servable:
            if request.verb == "classify":
                response = inference.classify(
                    servable,
                    classification_pb2.ClassificationRequest(**given),
                    self.timeout)
                return classification_json(response.result)
            response = inference.regress(
                servable, regression_pb2.RegressionRequest(**given),
                self.timeout)
            return regression_json(response.result)

    def _metadata(self, request: RestRequest) -> bytes:
        with self.manager.use(request.model_spec()) as servable:
            spec = model_pb2.ModelSpec(name=servable.name)
            spec.version.value = servable.version
            signatures = get_model_metadata_pb2.SignatureDefMap(
                signature_def=servable.signatures)
        return _json({"model_spec": _dict(spec),
                      "metadata": {"signature_def": _dict(signatures)}})


def _dict(message) -> dict:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True)


def _json(value: dict) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
