"""Reads and checks the model server's config files."""
from __future__ import annotations

import os
from pathlib import Path

from google.protobuf import text_format
from grpc import StatusCode
from tensorflow_serving.config import model_server_config_pb2

from tfrecal.serving.server.errors import ServingError, invalid

_PLATFORM = "tensorflow"


def single(name: str, base_path: str
           ) -> model_server_config_pb2.ModelServerConfig:
    """Returns a config that serves the latest version of one model."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=base_path, model_platform=_PLATFORM)
    return config


def read_text_proto(path, message):
    """Fills a message from a file in text format.

    Raises:
        ServingError: INVALID_ARGUMENT, with the line, for a file that cannot
            be read or parsed.
    """
    try:
        return text_format.Parse(
            Path(path).read_text(encoding="utf-8"), message)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise invalid(f"Cannot read {path} as {message.DESCRIPTOR.name}: "
                      f"{error}") from error


def models_of(config, before: dict) -> dict:
    """Checks the models of a config; returns name -> ModelConfig.

    Args:
        config: a `ModelServerConfig`.
        before: the models of the config that is replaced.

    Raises:
        ServingError: a model is not allowed; the text is TensorFlow
            Serving's.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise invalid("ServerModelConfig type not supported. Only "
                      "ModelConfigList is supported")
    found = {}
    for model in config.model_config_list.config:
        name = model.name
        if name in found:
            raise invalid(f"Illegal to list model {name} multiple times in "
                          "config list")
        if not os.path.isabs(model.base_path):
            raise invalid(f"Expected model {name} to have an absolute path or "
                          f"URI; got base_path()={model.base_path}")
        platform = _platform(model)
        if name in before and platform != _platform(before[name]):
            raise invalid("Illegal to change a model's platform. For model "
                          f"{name} platform was {_platform(before[name])} and "
                          f"new platform requested is {platform}")
        if platform != _PLATFORM:
            raise invalid(f"Model {name} requests unsupported platform "
                          f"{platform}")
        if model.HasField("logging_config"):
            raise invalid("No request-logger-creator provided.")
        found[name] = model
    return found


def check_labels(models: dict, states, before: dict, allow: bool) -> None:
    """Checks that each label points to a version that is available.

    Args:
        models: name -> ModelConfig.
        states: `(name, version) -> bool`, whether the version is available.
        before: name -> label -> version, as it is now.
        allow: whether a new label may point to a version that is not
            available yet.

    Raises:
        ServingError: FAILED_PRECONDITION for a label that does not.
    """
    for name, model in models.items():
        for label, version in model.version_labels.items():
            now = before.get(name, {}).get(label, version)
            if not states(name, version) and not (allow and now == version):
                raise ServingError(
                    StatusCode.FAILED_PRECONDITION, "Request to assign label "
                    f"to version {version} of model {name}, which is not "
                    "currently available for inference")


def _platform(model) -> str:
    if model.model_platform:
        return model.model_platform
    if model.model_type == model_server_config_pb2.TENSORFLOW:
        return _PLATFORM
    raise invalid("Illegal setting neither ModelServerConfig::model_type "
                  "(deprecated) nor ModelServerConfig::model_platform")
