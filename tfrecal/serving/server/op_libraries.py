"""Ops outside TensorFlow's core, registered for the models to be loaded."""
from __future__ import annotations

import functools
import importlib

import tensorflow as tf
from grpc import StatusCode

from tfrecal.serving.server.errors import ServingError

# A module that registers ops -> what to install where a model needs them.
_LIBRARIES = {
    "tensorflow_text": "pip install tensorflow-text",
    "scann.scann_ops.py.scann_ops": "pip install '.[scann]'"}


@functools.cache
def load() -> dict[str, str]:
    """Imports the modules, once.

    Returns:
        Module -> why it could not be imported, for each that is missing.
    """
    missing = {}
    for module in _LIBRARIES:
        try:
            importlib.import_module(module)
        except Exception as error:  # also one built for another TensorFlow
            missing[module] = f"{type(error).__name__}: {error}"
    return missing


def load_error(error: Exception, folder) -> ServingError:
    """Returns the error of a SavedModel that could not be loaded."""
    text = str(getattr(error, "message", "") or error)
    if "Op type not registered" in text or "No op named" in text:
        cures = "".join(f" {module} is missing ({why}): `{_LIBRARIES[module]}`."
                        for module, why in load().items())
        return ServingError(StatusCode.NOT_FOUND, f"{text}{cures}")
    if isinstance(error, (tf.errors.OpError, ServingError)):
        return ServingError.of(error)
    if isinstance(error, OSError):
        return ServingError(StatusCode.DATA_LOSS,
                            f"Can't parse {folder} as a SavedModel: {text}")
    if isinstance(error, RuntimeError) or "valid checkpoint" in text:
        # No graph of these tags, no variables.
        return ServingError(StatusCode.NOT_FOUND, text)
    return ServingError.of(error)
