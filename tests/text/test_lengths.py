"""Tokens of texts, counted without TensorFlow."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from encoder_contract import TEXTS, write
from encoder_kinds import KINDS

from tfrecal.text.encoder import TextEncoder
from tfrecal.text.lengths import longest_text, token_counts


@pytest.mark.parametrize("kind", [
    name for name in KINDS if name not in ("albert", "xlnet")])
def test_counts_are_those_of_the_encoder(kind, tmp_path):
    write(tmp_path, KINDS[kind])
    config = tmp_path / "config.json"
    encoder = TextEncoder(tmp_path, max_length=38)
    texts = [text[:20] for text in TEXTS] + ["a </s> [SEP] b"]
    expected = encoder.tokenize(tf.constant(texts)).row_lengths().numpy()
    assert expected.max() < 38
    found = token_counts(texts, str(tmp_path))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64 and config.is_file()


@pytest.mark.parametrize("kind", ["albert", "xlnet"])
def test_kinds_that_need_the_file_of_the_fast_tokenizer(kind, tmp_path):
    write(tmp_path, KINDS[kind])
    with pytest.raises(ValueError, match="tokenizer.json"):
        token_counts(TEXTS, str(tmp_path))


def test_long_texts_are_counted_whole(tiny_bert_folder):
    assert token_counts(["the " * 700, ""], tiny_bert_folder).tolist() == [
        702, 2]
    assert token_counts([], tiny_bert_folder).shape == (0,)


def test_the_checkpoints_own_length(tiny_bert_folder):
    assert longest_text(tiny_bert_folder, 64) == 64


@pytest.mark.parametrize("config, part", [
    ("{", "config.json"), ('{"model_type": "t5"}', "'t5'"),
    ('{"model_type": 5}', "model_type"), ("{}", "model_type")])
def test_other_kinds_are_refused(config, part, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=part) as found:
        token_counts(["a"], tmp_path)
    assert str(tmp_path) in str(found.value)
    assert "\n" not in str(found.value)


def test_texts_must_be_texts(tiny_bert_folder):
    with pytest.raises(TypeError, match="one string"):
        token_counts("abc", tiny_bert_folder)
    with pytest.raises(TypeError, match="place 1"):
        token_counts(["a", None], tiny_bert_folder)


def test_no_tensorflow_is_imported(tiny_bert_folder):
    code = ("import sys; from tfrecal.text.lengths import token_counts; "
            f"token_counts(['a'], {str(tiny_bert_folder)!r}); "
            "assert not {'tensorflow', 'tf_keras', 'transformers'} "
            "& set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)
