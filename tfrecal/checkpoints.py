"""Pretrained checkpoints from disk into TF-Transformers, without torch."""

from __future__ import annotations

import contextlib
import json
import warnings
from pathlib import Path

import tf_keras
import transformers
from safetensors import SafetensorError
from transformers.utils import logging

from tfrecal.architectures import ARCHITECTURES, Architecture

_WEIGHTS = {
    "model.safetensors": True,
    "model.safetensors.index.json": True,
    "tf_model.h5": False,
}


def find_folder(checkpoint: str) -> Path:
    """The folder of a checkpoint: local, named, or from Hugging Face.

    Raises:
        ValueError: a path that is not there.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or checkpoint.startswith((".", "~")):
        raise ValueError(
            "`checkpoint` must be a folder that exists, a named encoder or a "
            f"Hugging Face name. Received: checkpoint={checkpoint!r}, where "
            "there is no folder."
        )
    from tfrecal.assets import encoder_folder

    return Path(encoder_folder(checkpoint))


def read_architecture(folder: Path) -> Architecture:
    """The kind of a checkpoint, with its configuration.

    Raises:
        ValueError: config.json is missing, broken, or of a model that is
            none of `architectures.ARCHITECTURES`.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            "A checkpoint folder must hold a readable `config.json`. "
            f"Received: {folder}: {error}. Give the folder that has the "
            "weights, config.json and the tokenizer's files."
        ) from error
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"The checkpoint must be one of {', '.join(ARCHITECTURES)}. "
            f"Received: model_type={kind!r} in {path}. Choose another "
            "checkpoint, such as \"minilm\"."
        )
    architecture = ARCHITECTURES[kind]
    for name, wanted in architecture.settings:
        if config.get(name, wanted) != wanted:
            raise ValueError(
                f"A {kind} checkpoint must have {name}={wanted!r}. Received: "
                f"{name}={config[name]!r} in {path}. Choose another "
                "checkpoint, such as \"minilm\"."
            )
    of_kind = getattr(transformers, architecture.config_name)
    return architecture(of_kind.from_dict(config))


def load_base(
    folder: Path, architecture: Architecture
) -> tf_keras.layers.Layer:
    """Embeddings and layers with their pretrained weights, no pooler.

    Raises:
        ValueError: the weights are missing, cut off, or of other shapes.
    """
    name = next((n for n in _WEIGHTS if (Path(folder) / n).is_file()), None)
    if name is None:
        raise ValueError(
            "A checkpoint folder must hold one of "
            f"{', '.join(_WEIGHTS)}. Received: {folder}, which has none. "
            "Convert PyTorch .bin weights to safetensors first."
        )
    of_kind = getattr(transformers, architecture.model_name)
    try:
        with _quiet():
            model, report = of_kind.from_pretrained(
                str(folder),
                config=architecture.config,
                use_safetensors=_WEIGHTS[name],
                output_loading_info=True,
                local_files_only=True,
            )
    # TypeError: transformers stumbles over its own error for other shapes.
    except (
        OSError, ValueError, KeyError, TypeError, SafetensorError
    ) as error:
        raise ValueError(
            f"The weights in {name} must fit config.json. Received: {folder}: "
            f"{error} If the file was cut off, fetch it again."
        ) from error
    missing = sorted(k for k in report["missing_keys"] if "pooler" not in k)
    if missing:
        raise ValueError(
            "The checkpoint must hold all weights of its config.json. "
            f"Received: {folder} without {', '.join(missing[:3])} "
            f"({len(missing)} missing). Fetch it again."
        )
    base = getattr(model, model.base_model_prefix)
    if getattr(base, "pooler", None) is not None:
        # Never used, and at random where the file has none. None in its place
        # would leave it among what is saved.
        base.pooler = tf_keras.layers.Layer(name="no_pooler")
    for module in base.submodules:
        # Dropouts are not called here, and Keras would warn of each at export.
        module.built = True
    return base


@contextlib.contextmanager
def _quiet():
    """Without warnings of an unused pooler, of initial values and the like.

    A weight that is missing is an error of `load_base`.
    """
    loud = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The initializer", UserWarning)
            yield
    finally:
        logging.set_verbosity(loud)
