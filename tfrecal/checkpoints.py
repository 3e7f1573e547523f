"""Pretrained BERT checkpoints from disk into TF-Transformers, without torch."""

from __future__ import annotations

import json
from pathlib import Path

import tf_keras
from safetensors import SafetensorError
from transformers import BertConfig, TFBertModel
from transformers.utils import logging

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


def read_config(folder: Path) -> BertConfig:
    """The configuration of a BERT checkpoint.

    Raises:
        ValueError: it is missing, broken, or not of a BERT encoder.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            "A checkpoint folder must hold a readable `config.json`. "
            f"Received: {folder}: {error}. Give the folder that has the "
            "weights, config.json and vocab.txt."
        ) from error
    kind = config.get("model_type")
    positions = config.get("position_embedding_type", "absolute")
    if kind != "bert" or positions != "absolute" or config.get("is_decoder"):
        raise ValueError(
            "The checkpoint must be a BERT encoder with absolute positions. "
            f"Received: model_type={kind!r}, "
            f"position_embedding_type={positions!r}, "
            f"is_decoder={config.get('is_decoder', False)} in {path}. Choose "
            "a BERT-type checkpoint, such as \"minilm\"."
        )
    return BertConfig.from_dict(config)


def load_bert(folder: Path, config: BertConfig) -> tf_keras.layers.Layer:
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
    loud = logging.get_verbosity()
    # An unused pooler and the like are not worth a warning; a weight that is
    # missing is an error below.
    logging.set_verbosity_error()
    try:
        model, report = TFBertModel.from_pretrained(
            str(folder),
            config=config,
            use_safetensors=_WEIGHTS[name],
            add_pooling_layer=False,
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
    finally:
        logging.set_verbosity(loud)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ValueError(
            "The checkpoint must hold all weights of its config.json. "
            f"Received: {folder} without {', '.join(missing[:3])} "
            f"({len(missing)} missing). Fetch it again."
        )
    for module in model.bert.submodules:
        # Dropouts are not called here, and Keras would warn of each at export.
        module.built = True
    return model.bert
