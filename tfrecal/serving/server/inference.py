"""Classify, Regress and MultiInference: signatures that take tf.Examples."""
from __future__ import annotations

import numpy as np
from google.protobuf import text_format
from grpc import StatusCode
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

from tfrecal.serving.server.errors import ServingError, invalid
from tfrecal.serving.server.servable import DEFAULT_SIGNATURE, METHODS, Servable
from tfrecal.serving.server.tensor_protos import dtype_of

_CLASSIFY, _REGRESS = METHODS[1:]


def classify(servable: Servable, request, timeout=None):
    """Answers a ClassificationRequest.

    Raises:
        ServingError: the signature, the input or the result is not one of a
            classifier; code and text are TensorFlow Serving's.
    """
    response = classification_pb2.ClassificationResponse()
    name = _fill_spec(response, servable, request.model_spec)
    response.result.CopyFrom(
        _classified(servable, name, request.input, timeout))
    return response


def regress(servable: Servable, request, timeout=None):
    """Answers a RegressionRequest; raises as `classify`."""
    response = regression_pb2.RegressionResponse()
    name = _fill_spec(response, servable, request.model_spec)
    response.result.CopyFrom(
        _regressed(servable, name, request.input, timeout))
    return response


def multi_inference(servable: Servable, request, timeout=None):
    """Answers a MultiInferenceRequest; raises as `classify`."""
    _check_tasks(servable, request.tasks)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        result = response.results.add()
        name = _fill_spec(result, servable, task.model_spec)
        if task.method_name == _CLASSIFY:
            result.classification_result.CopyFrom(
                _classified(servable, name, request.input, timeout))
        else:
            result.regression_result.CopyFrom(
                _regressed(servable, name, request.input, timeout))
    return response


def _check_tasks(servable, tasks):
    seen = set()
    for task in tasks:
        spec = task.model_spec
        name = spec.signature_name or DEFAULT_SIGNATURE
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0].model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must "
                          "access the same model name.")
        if name in seen:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        if name not in servable.signatures:
            raise invalid("Requested signature not found in model graph: "
                          f"{name}")
        if task.method_name not in (_CLASSIFY, _REGRESS):
            raise ServingError(
                StatusCode.UNIMPLEMENTED,
                f"Unsupported signature method_name: {task.method_name}")


def _fill_spec(response, servable, spec) -> str:
    name = spec.signature_name or DEFAULT_SIGNATURE
    response.model_spec.name = servable.name
    response.model_spec.signature_name = name
    response.model_spec.version.value = servable.version
    return name


def _signature(servable, name, kind, method):
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid(f"No signature was found with the name: {name}")
    if servable.check_method and signature.method_name != method:
        raise invalid(f"Expected {kind} signature method_name to be {method}. "
                      f"Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    return signature


def _classified(servable, name, given, timeout):
    signature = _signature(servable, name, "classification", _CLASSIFY)
    outputs = signature.outputs
    if len(outputs) not in (1, 2):
        raise invalid("Expected one or two output Tensors, found "
                      f"{len(outputs)}")
    _require_input(signature, "classification")
    aliases = [a for a in ("classes", "scores") if a in outputs]
    if not aliases:
        raise invalid("Expected classification signature outputs to contain "
                      "at least one of \"classes\" or \"scores\". Signature "
                      f"was: {_text(signature)}")
    count, found = _run_examples(servable, name, given, aliases, timeout)
    classes, scores = found.get("classes"), found.get("scores")
    _require_matrix("classes", classes, types_pb2.DT_STRING, count)
    _require_matrix("scores", scores, types_pb2.DT_FLOAT, count)
    if classes is not None and scores is not None \
            and classes.shape != scores.shape:
        raise invalid("Tensors class and score should match in "
                      f"dim_size(1): {classes.shape}!={scores.shape}")
    result = classification_pb2.ClassificationResult()
    width = (scores if classes is None else classes).shape[1]
    for row in range(count):
        part = result.classifications.add()
        for column in range(width):
            entry = part.classes.add()
            if classes is not None:
                entry.label = _utf8(classes[row, column])
            if scores is not None:
                entry.score = scores[row, column]
    return result


def _regressed(servable, name, given, timeout):
    signature = _signature(servable, name, "regression", _REGRESS)
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    _require_input(signature, "regression")
    if "outputs" not in signature.outputs:
        raise invalid("No regression outputs found in SignatureDef: "
                      f"{_text(signature)}")
    count, found = _run_examples(servable, name, given, ["outputs"], timeout)
    values = found["outputs"]
    if values.shape not in ((count,), (count, 1)):
        raise invalid("Expected output Tensor shape to be either "
                      f"[batch_size] or [batch_size, 1] but got "
                      f"{list(values.shape)}")
    if dtype_of(values) != types_pb2.DT_FLOAT:
        raise invalid("Expected output Tensor of DT_FLOAT. "
                      f"Received: {values.dtype}")
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _require_input(signature, kind):
    if "inputs" not in signature.inputs:
        raise invalid(f"No {kind} inputs found in SignatureDef: "
                      f"{_text(signature)}")


def _require_matrix(name, array, dtype, count):
    if array is not None and (array.ndim != 2 or len(array) != count
                              or dtype_of(array) != dtype):
        raise invalid(
            f"Expected Tensor `{name}` of "
            f"{types_pb2.DataType.Name(dtype)} and shape [{count}, ?]. "
            f"Received: {array.dtype}, {list(array.shape)}")


def _run_examples(servable, name, given, aliases, timeout):
    """Returns the number of examples and the signature's outputs for them."""
    kind = given.WhichOneof("kind")
    examples = [] if kind is None else list(getattr(given, kind).examples)
    if not examples:
        raise invalid("Input is empty.")
    if kind == "example_list_with_context":
        for n, example in enumerate(examples):
            merged = type(example)()
            merged.CopyFrom(given.example_list_with_context.context)
            for feature, value in example.features.feature.items():
                merged.features.feature[feature].CopyFrom(value)
            examples[n] = merged
    rows = np.array([e.SerializeToString() for e in examples], object)
    return len(rows), servable.run(name, {"inputs": rows}, aliases, timeout)


def _utf8(label: bytes) -> str:
    try:
        return label.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ServingError(
            StatusCode.INTERNAL, "A label of a class must be UTF-8. "
            f"Received: {label!r}.") from error


def _text(signature) -> str:
    return text_format.MessageToString(signature)
