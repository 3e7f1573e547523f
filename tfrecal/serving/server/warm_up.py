"""Warm-up: the requests in a version's folder, run before it is available."""
from __future__ import annotations

import tensorflow as tf
from google.protobuf.message import DecodeError
from grpc import StatusCode
from tensorflow_serving.apis import prediction_log_pb2

from tfrecal.serving.server import inference
from tfrecal.serving.server.errors import ServingError, invalid

FILE = "assets.extra/tf_serving_warmup_requests"
_MOST = 1000


def warm_up(servable, times: int = 1) -> int:
    """Runs the recorded requests, if there are any.

    Args:
        servable: a `Servable`, not yet in use.
        times: how often each record is run.

    Returns:
        How many records were run.

    Raises:
        ServingError: a record cannot be read or run; the version must not
            be served.
    """
    path = servable.folder / FILE
    if not path.is_file():
        return 0
    count = 0
    for record in _records(path):
        log = prediction_log_pb2.PredictionLog()
        try:
            log.ParseFromString(record)
        except DecodeError as error:
            raise invalid("Failed to parse warmup record: "
                          f"{error}") from error
        kind = log.WhichOneof("log_type")
        if kind is None:
            continue
        for _ in range(max(times, 1)):
            _run_record(servable, kind, log)
        count += 1
        if count > _MOST:
            raise invalid("Number of warmup records exceeds the maximum "
                          f"({_MOST}) at {path}")
    return count


def _records(path):
    try:
        yield from (record.numpy() for record
                    in tf.data.TFRecordDataset(str(path)))
    except tf.errors.OpError as error:
        raise ServingError(
            StatusCode.DATA_LOSS, f"Failed to read warmup data: {path}: "
            f"{error.message}. Please verify your warmup data is in TFRecord "
            "format.") from error


def _run_record(servable, kind, log):
    request = getattr(log, kind).request if kind != "session_run_log" else None
    if kind == "predict_log":
        servable.predict(request)
    elif kind == "classify_log":
        inference.classify(servable, request)
    elif kind == "regress_log":
        inference.regress(servable, request)
    elif kind == "multi_inference_log":
        inference.multi_inference(servable, request)
    else:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(StatusCode.UNIMPLEMENTED,
                           f"Unsupported log_type for warmup: {number}")
