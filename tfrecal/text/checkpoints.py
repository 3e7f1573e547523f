"""Loads pretrained checkpoints into TF-Transformers, without torch."""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from pathlib import Path

import tensorflow as tf
import tf_keras
import transformers
from safetensors import SafetensorError
from transformers.activations_tf import ACT2FN
from transformers.modeling_tf_pytorch_utils import (
    convert_tf_weight_name_to_pt_weight_name,
)
from transformers.utils import logging

from tfrecal.text import weight_files
from tfrecal.text.architectures import ARCHITECTURES, Architecture
from tfrecal.text.sentence_folder import find_folder, read_sentence_folder

_WEIGHTS = {
    "model.safetensors": True,
    weight_files.INDEX: True,
    "tf_model.h5": False,
}
# Largest numbers of a config.json, and of layers: above, building a model
# would not end.
_MOST, _MOST_LAYERS = 1 << 24, 1000


def read_architecture(folder: Path) -> Architecture:
    """Reads the kind of a checkpoint, with its configuration.

    Raises:
        ValueError: config.json is missing or broken, or its model is none of
            `architectures.ARCHITECTURES`.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"no object but {str(config):.40}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            "A checkpoint folder must hold a readable `config.json`. "
            f"Received: {folder}: {error}. Give the folder that has the "
            "weights, config.json and the tokenizer's files."
        ) from error
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise ValueError(
            f"The checkpoint must be one of {', '.join(ARCHITECTURES)}. "
            f"Received: model_type={kind!r} in {path}. Choose another "
            "checkpoint, such as \"minilm\"."
        )
    architecture = ARCHITECTURES[kind]
    for name, wanted in architecture.settings:
        value = config.get(name, wanted)
        if type(value) is not type(wanted) or value != wanted:
            raise ValueError(
                f"A {kind} checkpoint must have {name}={wanted!r}. Received: "
                f"{name}={config[name]!r} in {path}. Choose another "
                "checkpoint, such as \"minilm\"."
            )
    of_kind = getattr(transformers, architecture.config_name)
    wrong = _odd_values(config, of_kind)
    if not wrong:
        made = architecture(of_kind.from_dict(config))
        wrong = _odd_form(made)
    if wrong:
        raise ValueError(
            "config.json must describe a transformer. Received: "
            f"{'; '.join(wrong)} in {path}. Fetch it again."
        )
    return made


def architecture_of(checkpoint: str) -> Architecture:
    """Reads the kind of a checkpoint as `TextEncoder` takes it.

    Raises:
        ValueError: it is not there, or of a kind that cannot be read.
    """
    # An argument may replace the pooling.
    return read_architecture(read_sentence_folder(
        find_folder(checkpoint), pooling="mean").transformer)


def _odd_values(config: dict, of_kind) -> list[str]:
    """Says which values are of other types than the kind's own, or too large.
    """
    own = of_kind().to_dict()
    wrong = []
    for name in own.keys() - transformers.PretrainedConfig().to_dict().keys():
        value, usual = config.get(name, own[name]), own[name]
        kinds = (int, float) if type(usual) is float else (type(usual),)
        most = _MOST_LAYERS if re.search("layer|group", name) else _MOST
        if usual is not None and type(value) not in kinds or (
                type(value) is int and abs(value) > most):
            wrong.append(f"{name} is {value!r:.40}")
    return sorted(wrong)


def _odd_form(architecture) -> list[str]:
    """Says which numbers no model can have."""
    config, form = architecture.config, architecture.form
    whole = {"vocab_size": config.vocab_size,
             "num_hidden_layers": config.num_hidden_layers,
             "the hidden size": form.hidden, "the inner size": form.inner,
             "the number of heads": form.heads}
    # A static student of `distill` has no layers.
    least = {"num_hidden_layers": 0}
    wrong = [f"{name} is {value!r}" for name, value in whole.items()
             if type(value) is not int or value < least.get(name, 1)]
    if not wrong and form.hidden % form.heads:
        wrong.append(f"the hidden size {form.hidden} is no multiple of "
                     f"{form.heads} heads")
    if not 0 < form.epsilon < float("inf"):
        wrong.append(f"the epsilon of layer normalisation is {form.epsilon}")
    if form.activation not in ACT2FN:
        wrong.append(f"the activation is {form.activation!r}")
    return wrong


def load_base(
    folder: Path, architecture: Architecture
) -> tf_keras.layers.Layer:
    """Loads embeddings and layers with their pretrained weights.

    The pooler is left out.

    Raises:
        ValueError: weights are missing, cut off, or of other shapes.
    """
    name = next((n for n in _WEIGHTS if (Path(folder) / n).is_file()), None)
    if name is None:
        raise _no_weights(Path(folder))
    of_kind = getattr(transformers, architecture.model_name)
    try:
        with _quiet(), contextlib.ExitStack() as stack:
            if _WEIGHTS[name]:
                place = stack.enter_context(weight_files.readable(
                    folder, name, architecture.landmark,
                    of_kind.base_model_prefix + "."))
            else:
                place = folder
            model, report = of_kind.from_pretrained(
                str(place),
                config=architecture.config,
                use_safetensors=_WEIGHTS[name],
                output_loading_info=True,
                local_files_only=True,
            )
    # A TypeError comes from a mistake in transformers' own error message for
    # other shapes.
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError,
        ArithmeticError, SafetensorError, tf.errors.OpError
    ) as error:
        why = ("they have other shapes." if isinstance(error, TypeError)
               else " ".join(str(error).split()))
        raise ValueError(
            f"The weights in {name} must fit config.json. Received: {folder}: "
            f"{why} If the file was cut off, fetch it again."
        ) from error
    missing = sorted(k for k in report["missing_keys"] if "pooler" not in k)
    if missing:
        raise ValueError(
            "The checkpoint must hold all weights of its config.json. "
            f"Received: {folder} without {', '.join(missing[:3])} "
            f"({len(missing)} missing). Fetch it again."
        )
    base = getattr(model, model.base_model_prefix)
    _check_finite(base, model.base_model_prefix, folder)
    if getattr(base, "pooler", None) is not None:
        # The pooler is never used, and random where the file has none. If it
        # were set to None, it would still be saved.
        base.pooler = tf_keras.layers.Layer(name="no_pooler")
    for module in base.submodules:
        # Dropout layers are not called; Keras would warn of each at export.
        module.built = True
    return base


def _no_weights(folder) -> ValueError:
    there = [name for name in ("pytorch_model.bin",
                               "pytorch_model.bin.index.json")
             if (folder / name).is_file()]
    return ValueError(
        f"A checkpoint folder must hold one of {', '.join(_WEIGHTS)}. "
        f"Received: {folder}, which has {there[0] if there else 'none'}. "
        "Convert PyTorch's .bin to safetensors first, where PyTorch is: "
        "`AutoModel.from_pretrained(folder).save_pretrained(folder)`."
    )


def _check_finite(base, prefix, folder) -> None:
    for weight in base.weights:
        if not tf.reduce_all(tf.math.is_finite(weight)):
            name, _ = convert_tf_weight_name_to_pt_weight_name(
                weight.name, prefix + ".", weight.shape)
            raise ValueError(
                "Weights must be finite numbers. Received: NaN or infinity "
                f"in {name.removeprefix(prefix + '.')} of {folder}. Its "
                "training diverged, or the file is damaged: fetch it again, "
                "or give another checkpoint."
            )


@contextlib.contextmanager
def _quiet():
    """Silences warnings of an unused pooler, of initial values and the like.

    `load_base` itself raises an error for a missing weight.
    """
    loud = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The initializer", UserWarning)
            yield
    finally:
        logging.set_verbosity(loud)
