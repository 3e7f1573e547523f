"""Writes a student's checkpoint, which starts from a teacher's layers."""
from __future__ import annotations

import json
import shutil

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file
from transformers.modeling_tf_pytorch_utils import (
    convert_tf_weight_name_to_pt_weight_name,
)

from tfrecal.text.sentence_folder import (
    LIST,
    POOLING_MODES,
    PROMPTS,
    SENTENCE_CONFIGS,
    SentenceFolder,
    find_folder,
    read_sentence_folder,
)


def begin(teacher, folder, layers: int) -> None:
    """Writes a student as it is before training.

    Args:
        teacher: the `TextEncoder` whose layers it takes.
        folder: the folder of the checkpoint.
        layers: number of the student's layers.
    """
    sentences = read_sentence_folder(
        find_folder(teacher.checkpoint), teacher.pooling)
    source = sentences.transformer
    for name in ("vocab.txt", "tokenizer_config.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config.update(model_type=teacher.architecture.kind,
                  num_hidden_layers=layers)
    last = teacher.architecture.config.num_hidden_layers - 1
    chosen = np.linspace(0, last, layers).round().astype(int)
    weights = _weights(teacher, chosen if layers > 1 else [last] * layers)
    if not layers:
        config.update(hidden_size=teacher.dim, embedding_size=teacher.dim)
        config["layer_norm_eps"] = _static(teacher, weights)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    # Without layers a token's vector does not depend on other tokens, so only
    # a mean reads the whole text.
    pooling = teacher.pooling if layers else "mean"
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(
        {name: mode == pooling for name, mode in POOLING_MODES.items()}))
    _write_modules(sentences, folder)
    _write(weights, folder)


def _write_modules(sentences: SentenceFolder, folder) -> None:
    """Writes what else the teacher's texts go through, if anything."""
    if sentences == SentenceFolder(sentences.transformer, sentences.pooling):
        return
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * bool(sentences.after)
    places = ["", "1_Pooling", "2_Normalize"]
    contents = {
        LIST: [{"idx": n, "name": str(n), "path": places[n],
                "type": f"sentence_transformers.models.{kind}"}
               for n, kind in enumerate(kinds)],
        SENTENCE_CONFIGS[0]: {"max_seq_length": sentences.max_length,
                              "do_lower_case": sentences.lower_case},
        PROMPTS: {"prompts": {"default": sentences.prompt},
                  "default_prompt_name": "default"}}
    for name, content in contents.items():
        (folder / name).write_text(
            json.dumps(content, indent=1), encoding="utf-8")


def save(encoder, folder) -> None:
    """Writes the weights of an encoder as they are now."""
    layers = encoder.architecture.config.num_hidden_layers
    _write(_weights(encoder, range(layers)), folder)


def _write(weights, folder):
    save_file(weights, folder / "model.safetensors",
              metadata={"format": "pt"})


def _weights(encoder, chosen) -> dict[str, np.ndarray]:
    """Returns PyTorch name -> weight, for the chosen layers only."""
    found = {}
    weights = encoder.distinct_weights()
    number = {int(layer): n for n, layer in enumerate(chosen)}
    for weight in encoder.base.weights:
        # "model/base/encoder/layer_._0/...": the first is dropped.
        name = weight.name.partition("/")[2]
        name, transpose = convert_tf_weight_name_to_pt_weight_name(
            name, start_prefix_to_remove="", tf_weight_shape=weight.shape)
        value = weight.numpy()
        if name.startswith("encoder.layer."):
            layer, _, rest = name.removeprefix(
                "encoder.layer.").partition(".")
            if int(layer) not in number:
                continue
            name = f"encoder.layer.{number[int(layer)]}.{rest}"
            for role in ("query", "value", "key"):
                if encoder.lora is not None and rest == (
                        f"attention.self.{role}.weight"):
                    value = getattr(weights[int(layer)], role)[0].numpy()
        turned = value.T if transpose.name == "SIMPLE" else value
        found[name] = np.ascontiguousarray(turned)
    return found


def _static(teacher, weights) -> float:
    """Replaces the embeddings by those of a static student.

    A token's vector starts as the teacher's vector of a text of that token
    alone. Layer normalisation with a large epsilon changes vectors hardly at
    all, so the norm of a token's vector is its importance in the mean.

    Returns:
        The epsilon.

    Reference:
        Tulkens and van Dongen 2024, Model2Vec (github.com/MinishLab).
    """
    words = teacher.architecture.config.vocab_size
    ends = teacher.tokenize([""]).flat_values.numpy()
    rows = np.tile(ends[:1], (words, 3)).astype(np.int32)
    rows[:, 1], rows[:, 2] = np.arange(words), ends[-1]
    table = np.concatenate([teacher.encode_ids(
        tf.constant(part.ravel()), np.arange(len(part)) * 3,
        np.full(len(part), 3)).numpy() for part in np.array_split(
            rows, -(-words // 1024))])
    epsilon = 100 * float(table.var(axis=1).max())
    places = weights["embeddings.position_embeddings.weight"]
    kinds = weights["embeddings.token_type_embeddings.weight"]
    for name in [name for name in weights if "project" in name]:
        del weights[name]
    weights.update({
        "embeddings.word_embeddings.weight": table,
        "embeddings.position_embeddings.weight": np.zeros(
            (len(places), teacher.dim), np.float32),
        "embeddings.token_type_embeddings.weight": np.zeros(
            (len(kinds), teacher.dim), np.float32),
        "embeddings.LayerNorm.weight": np.full(
            teacher.dim, epsilon ** 0.5, np.float32),
        "embeddings.LayerNorm.bias": np.zeros(teacher.dim, np.float32)})
    return epsilon
