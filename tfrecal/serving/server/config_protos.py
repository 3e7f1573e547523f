"""Config messages of TensorFlow Serving that its API package leaves out.

Only names and types matter: they are read from text files.
"""
from __future__ import annotations

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

_PACKAGE = "tensorflow.serving"
_WRAPPERS = {"Int64Value", "StringValue", "BoolValue"}
# Message -> fields; a * stands for a list.
_MESSAGES = {
    "SSLConfig": {
        "server_key": "string", "server_cert": "string",
        "custom_ca": "string", "client_verify": "bool"},
    "PrometheusConfig": {"enable": "bool", "path": "string"},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
    "BatchingParameters": {
        "max_batch_size": "Int64Value",
        "batch_timeout_micros": "Int64Value",
        "max_enqueued_batches": "Int64Value",
        "num_batch_threads": "Int64Value",
        "thread_pool_name": "StringValue",
        "allowed_batch_sizes": "*int64",
        "pad_variable_length_inputs": "bool",
        "enable_large_batch_splitting": "BoolValue",
        "max_execution_batch_size": "Int64Value"}}


def _message_classes() -> dict:
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    file = descriptor_pb2.FileDescriptorProto(
        name="tfrecal/serving_configs.proto", package=_PACKAGE,
        syntax="proto3", dependency=[wrappers.name])
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            _add_field(message, field, number, kind)
    pool.Add(file)
    return {name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES}


def _add_field(message, name, number, kind):
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.startswith("*") \
        else field.LABEL_OPTIONAL
    kind = kind.lstrip("*")
    if kind in ("string", "bool", "int64"):
        field.type = getattr(field, f"TYPE_{kind.upper()}")
    else:
        package = "google.protobuf" if kind in _WRAPPERS else _PACKAGE
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{package}.{kind}"


_CLASSES = _message_classes()
SSLConfig = _CLASSES["SSLConfig"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
BatchingParameters = _CLASSES["BatchingParameters"]
