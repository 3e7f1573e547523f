"""The gRPC services of TensorFlow Serving over a ModelManager."""
from __future__ import annotations

import logging
import time

from grpc import StatusCode
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrecal.serving.server import inference
from tfrecal.serving.server.errors import ServingError, invalid

_MAX_MESSAGE = 1024
_log = logging.getLogger("tfrecal.serving")


class PredictionService(
        prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict, GetModelMetadata, Classify, Regress, MultiInference.

    Args:
        manager: a `ModelManager`.
        monitor: a `Monitor` that is told of each request, or None.
    """

    def __init__(self, manager, monitor=None):
        self._manager, self._monitor = manager, monitor

    def Predict(self, request, context):
        return self._answer("Predict", request, context, self._predict)

    def Classify(self, request, context):
        return self._answer("Classify", request, context, self._classify)

    def Regress(self, request, context):
        return self._answer("Regress", request, context, self._regress)

    def MultiInference(self, request, context):
        return _answer(context, lambda: self._multi_inference(
            request, _timeout(context)))

    def GetModelMetadata(self, request, context):
        return _answer(context, lambda: _metadata(self._manager, request))

    def _predict(self, request, timeout) -> predict_pb2.PredictResponse:
        with self._manager.use(_spec(request)) as servable:
            return servable.predict(request, timeout)

    def _classify(self, request, timeout):
        with self._manager.use(_spec(request)) as servable:
            return inference.classify(servable, request, timeout)

    def _regress(self, request, timeout):
        with self._manager.use(_spec(request)) as servable:
            return inference.regress(servable, request, timeout)

    def _multi_inference(self, request, timeout):
        if not request.tasks:
            raise invalid("ModelSpec has no name specified.")
        with self._manager.use(request.tasks[0].model_spec) as servable:
            return inference.multi_inference(servable, request, timeout)

    def _answer(self, api, request, context, function):
        started, status = time.perf_counter(), StatusCode.OK
        try:
            return function(request, _timeout(context))
        except Exception as failure:
            error = _error(failure)
            status = error.code
            context.abort(error.code, _cut(error.message))
        finally:
            if self._monitor is not None:
                self._monitor.request(
                    request.model_spec.name, api, "GRPC", status.name,
                    time.perf_counter() - started)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest.

    Args:
        manager: a `ModelManager`.
    """

    def __init__(self, manager):
        self._manager = manager

    def GetModelStatus(self, request, context):
        return _answer(context, lambda: self._status(request))

    def HandleReloadConfigRequest(self, request, context):
        return _answer(context, lambda: self._reload(request, context))

    def _status(self, request):
        spec = _spec(request)
        version = spec.version.value if spec.HasField("version") else None
        return get_model_status_pb2.GetModelStatusResponse(
            model_version_status=self._manager.status(spec.name, version))

    def _reload(self, request, context):
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid("ServerModelConfig type not supported by "
                          "HandleReloadConfigRequest. Only ModelConfigList "
                          "is currently supported")
        self._manager.reload(request.config, _timeout(context))
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _metadata(manager, request):
    spec = _spec(request)
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one "
                      "metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with manager.use(spec) as servable:
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap(
            signature_def=servable.signatures)
    response.metadata["signature_def"].Pack(signatures)
    return response


def _spec(request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec


def _timeout(context) -> float | None:
    """Returns the seconds that are left to the request, or None."""
    return context.time_remaining()


def _answer(context, function):
    try:
        return function()
    except Exception as failure:
        error = _error(failure)
        context.abort(error.code, _cut(error.message))


def _error(failure: Exception) -> ServingError:
    error = ServingError.of(failure)
    if error.code in (StatusCode.INTERNAL, StatusCode.UNKNOWN):
        _log.error("%s", error, exc_info=failure)
    return error


def _cut(message: str) -> str:
    """Cuts a message to 1,024 bytes, because gRPC's headers hold little."""
    data = message.encode("utf-8", "replace")
    if len(data) <= _MAX_MESSAGE:
        return data.decode("utf-8")
    return data[:_MAX_MESSAGE].decode("utf-8", "ignore") + "...TRUNCATED"
