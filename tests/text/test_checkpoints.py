"""Checkpoints as they are found in the wild, and those that cannot be used."""
from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from tfrecal.data import assets
from tfrecal.text.encoder import TextEncoder

TEXTS = ["the blue chair", "a tower of and"]
WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tiny_bert_folder, tmp_path):
    """A copy of the tiny BERT, to be changed."""
    path = tmp_path / "encoder"
    shutil.copytree(tiny_bert_folder, path)
    return path


@pytest.fixture(scope="module")
def plain(tiny_bert_folder):
    return vectors(tiny_bert_folder)


def vectors(folder):
    return TextEncoder(folder, max_length=12)(tf.constant(TEXTS)).numpy()


def rewrite(folder, change, format="pt"):
    """The weights with their names and values changed."""
    weights = dict(change(*pair) for pair in load_file(
        folder / WHOLE).items())
    save_file(weights, folder / WHOLE, format and {"format": format})


def edit(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def shard(folder, prefix=""):
    """Two files in place of one, and the index of both."""
    weights, places = load_file(folder / WHOLE), {}
    names = sorted(weights)
    for number, some in enumerate((names[:9], names[9:])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({prefix + n: weights[n] for n in some}, folder / file,
                  {"format": "pt"})
        places.update((prefix + n, file) for n in some)
    (folder / WHOLE).unlink()
    (folder / INDEX).write_text(json.dumps(
        {"metadata": {"total_size": 1}, "weight_map": places}))


@pytest.mark.parametrize("prefix", [
    "bert.", "model.", "0.auto_model.", "roberta."])
def test_names_behind_a_prefix(folder, plain, prefix):
    rewrite(folder, lambda name, values: (prefix + name, values))
    save_file({**load_file(folder / WHOLE), "head.weight": np.ones([2, 2])},
              folder / WHOLE, {"format": "pt"})
    np.testing.assert_array_equal(vectors(folder), plain)


@pytest.mark.parametrize("prefix", ["", "model."])
def test_several_files(folder, plain, prefix):
    shard(folder, prefix)
    np.testing.assert_array_equal(vectors(folder), plain)


def test_no_metadata(folder, plain):
    """As `safetensors.torch.save_file` writes it."""
    rewrite(folder, lambda *pair: pair, format=None)
    np.testing.assert_array_equal(vectors(folder), plain)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_weights_of_half_precision(folder, dtype, prefix):
    """They are used as float32 numbers, rounded only once."""
    rewrite(folder, lambda name, values: (
        name, values.astype(dtype).astype(np.float32)))
    rounded = vectors(folder)
    rewrite(folder, lambda name, values: (
        prefix + name, values.astype(dtype)))
    np.testing.assert_array_equal(vectors(folder), rounded)


def refused(folder, *parts):
    """One line that says what must hold, and where."""
    with pytest.raises(ValueError) as found:
        TextEncoder(folder, max_length=12)
    text = str(found.value)
    assert "\n" not in text and str(folder) in text and "Received: " in text
    for part in parts:
        assert part in text


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(folder, value):
    def change(name, values):
        if name.startswith("encoder.layer.1.output.dense.w"):
            values = values.copy()
            values[3, 4] = value
        return name, values

    rewrite(folder, change)
    refused(folder, "NaN or infinity", "encoder.layer.1.output.dense.weight",
            "another checkpoint")


def test_weights_that_are_quantised(folder):
    rewrite(folder, lambda name, values: (
        name, values.astype(np.int8) if values.ndim == 2 else values))
    refused(folder, "float", "I8", ".weight", "not quantised")


def test_two_encoders_in_one_file(folder):
    weights = load_file(folder / WHOLE)
    save_file({f"{side}.{name}": values for side in ("query", "document")
               for name, values in weights.items()}, folder / WHOLE)
    refused(folder, "one encoder", "document., query.")


def test_weights_of_another_width(folder):
    edit(folder / "config.json", hidden_size=64)
    refused(folder, "must fit config.json", "shapes")


def test_weights_of_pytorch_only(folder):
    (folder / WHOLE).rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin", "safetensors", "save_pretrained")


def test_a_file_of_several_is_missing_or_cut_off(folder):
    shard(folder)
    part = folder / "model-00002-of-00002.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[:-100])
    refused(folder, "fetch it again")
    part.unlink()
    refused(folder, part.name)
    part.write_bytes(whole)
    for index in ("{", "[]", "{}", '{"weight_map": {}}',
                  '{"weight_map": {"a": 1}}',
                  '{"weight_map": {"a": "../b.safetensors"}}'):
        (folder / INDEX).write_text(index)
        refused(folder, INDEX)


@pytest.mark.parametrize("config, parts", [
    ("[]", ["readable `config.json`"]), ('"bert"', ["readable"]),
    ({"model_type": ["bert"]}, ["model_type=['bert']"]),
    ({"hidden_size": "32"}, ["hidden", "'32'"]),
    ({"num_attention_heads": 5}, ["multiple", "5"]),
    ({"num_hidden_layers": -1}, ["num_hidden_layers", "-1"]),
    ({"vocab_size": None}, ["vocab_size", "None"]),
    ({"hidden_act": "nosuch"}, ["activation", "nosuch"]),
    ({"layer_norm_eps": None}, ["layer_norm_eps", "None"]),
    ({"layer_norm_eps": 0.0}, ["epsilon", "0.0"]),
    ({"num_hidden_layers": 2 ** 70}, ["num_hidden_layers"]),
    ({"max_position_embeddings": 2 ** 40}, ["max_position_embeddings"]),
    ({"type_vocab_size": [2]}, ["type_vocab_size", "[2]"]),
    ({"hidden_size": True}, ["hidden_size", "True"])])
def test_configs_that_cannot_be(folder, config, parts):
    path = folder / "config.json"
    if isinstance(config, str):
        path.write_text(config)
    else:
        edit(path, **config)
    refused(folder, "config.json", *parts)


@pytest.mark.parametrize("content", ["{", "[]", b"\xff\xfe"])
def test_tokenizer_options_that_cannot_be_read(folder, content):
    path = folder / "tokenizer_config.json"
    path.write_bytes(content if isinstance(content, bytes)
                     else content.encode())
    refused(folder, "tokenizer_config.json", "Fetch it again")


def test_a_tokenizer_class_that_is_left_open(folder, plain):
    edit(folder / "tokenizer_config.json", tokenizer_class=None)
    np.testing.assert_array_equal(vectors(folder), plain)


def test_vocabularies_that_cannot_be(folder):
    path = folder / "vocab.txt"
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:60], lines[61], *lines[61:]]))
    refused(folder, "vocab.txt", "once", repr(lines[61]))
    path.write_bytes(b"\xff" * 50)
    refused(folder, "vocab.txt", "UTF-8")


def with_pooling(folder, **modes):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))


@pytest.mark.parametrize("mode, pooling", [
    ("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "last")])
def test_the_pooling_of_sentence_transformers(folder, mode, pooling):
    """A checkpoint that was trained with another one than its kind's."""
    with_pooling(folder, **{
        "word_embedding_dimension": 32, "pooling_mode_mean_tokens": False,
        f"pooling_mode_{mode}": True})
    assert TextEncoder(folder, max_length=12).pooling == pooling
    assert TextEncoder(
        folder, max_length=12, pooling="last").pooling == "last"


def test_a_pooling_that_there_is_not(folder):
    with_pooling(folder, pooling_mode_max_tokens=True)
    refused(folder, "1_Pooling", "pooling_mode_max_tokens", "`pooling`")
    assert TextEncoder(
        folder, max_length=12, pooling="mean").pooling == "mean"


def asked_of_the_hub(monkeypatch, folder) -> list[str]:
    """The patterns of all calls, for a model with the files of a folder."""
    asked = []

    def download(name, allow_patterns, **_):
        asked.extend(allow_patterns)
        return folder

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert assets.encoder_folder("some/model") == folder
    return asked


def test_the_hub_is_asked_for_all_files_that_are_read(folder, monkeypatch):
    asked = asked_of_the_hub(monkeypatch, folder)
    for name in ("config.json", WHOLE, INDEX, "tokenizer.json", "vocab.txt",
                 "model-00001-of-00002.safetensors", "spiece.model",
                 "tokenizer_config.json", "vocab.json", "merges.txt",
                 "1_Pooling/config.json", "modules.json",
                 "sentence_bert_config.json", "2_Dense/config.json",
                 "config_sentence_transformers.json",
                 "2_Dense/model.safetensors"):
        assert any(fnmatch(name, pattern) for pattern in asked), name
    for name in ("pytorch_model.bin", "onnx/model.onnx", "tf_model.h5"):
        assert not any(fnmatch(name, pattern) for pattern in asked), name


def test_the_hub_is_asked_for_tensorflow_weights_last(folder, monkeypatch):
    (folder / WHOLE).unlink()
    assert "tf_model.h5" in asked_of_the_hub(monkeypatch, folder)
