"""Hidden states on disk: made once, of the right weights, bounded, whole."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrecal.text import encode_many, state_cache
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # a quarter of a minute
TEXTS = ["a", "b c", "a", "b", "c c a", ""]


@pytest.fixture
def made(monkeypatch, tmp_path):
    """Counts how often states are computed; the cache is empty at first."""
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))
    counted = []
    plain = encode_many.states
    monkeypatch.setattr(encode_many, "states", lambda *args: (
        counted.append(1), plain(*args))[1])
    return counted


def encoder(folder, **options):
    return TextEncoder(str(folder), **{
        "tuning": "top_n", "top_n": 1, "max_length": 16, **options})


def segments():
    return sorted((state_cache.cache_folder() / "states").glob("*/*.f32"))


def vectors(table):
    return table(tf.range(len(TEXTS) + 1)).numpy()


def test_states_are_computed_once(made, tiny_bert_folder):
    one = encoder(tiny_bert_folder)
    first = vectors(one.table(TEXTS))
    np.testing.assert_allclose(
        first[1:], one(tf.constant(TEXTS)), atol=1e-5)
    again = vectors(encoder(tiny_bert_folder).table(TEXTS))
    some = encoder(tiny_bert_folder).table(["b", "a"])
    np.testing.assert_array_equal(again, first)
    np.testing.assert_allclose(
        some(tf.constant([2, 1])), first[[1, 4]], atol=1e-5)
    assert len(made) == 1 and len(segments()) == 1
    encoder(tiny_bert_folder).table([*TEXTS, "c"])  # one text more
    assert len(made) == 2


def test_other_weights_have_states_of_their_own(made, tiny_bert_folder):
    encoder(tiny_bert_folder).table(TEXTS)
    other = encoder(tiny_bert_folder)
    other.base.embeddings.weight.assign_add(
        tf.ones_like(other.base.embeddings.weight))
    table = other.table(TEXTS)
    assert len(made) == 2 and len(segments()) == 2
    np.testing.assert_allclose(
        vectors(table)[1:], other(tf.constant(TEXTS)), atol=1e-5)


def test_what_is_trained_does_not_matter(made, tiny_bert_folder):
    one = encoder(tiny_bert_folder)
    one.table(TEXTS)
    for weight in one.trainable_weights:
        weight.assign_add(tf.ones_like(weight))
    np.testing.assert_allclose(
        vectors(one.table(TEXTS))[1:], one(tf.constant(TEXTS)), atol=1e-5)
    assert len(made) == 1


@pytest.mark.parametrize("harm", ["altered", "cut", "gone", "index"])
def test_a_harmed_segment_is_made_again(made, tiny_bert_folder, harm):
    first = vectors(encoder(tiny_bert_folder).table(TEXTS))
    path, = segments()
    content = path.read_bytes()
    if harm == "altered":
        path.write_bytes(content[:-4] + b"\0\0\0\1")
    elif harm == "cut":
        path.write_bytes(content[:-4])
    elif harm == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")
    np.testing.assert_array_equal(
        vectors(encoder(tiny_bert_folder).table(TEXTS)), first)
    assert len(made) == 2
    assert segments()[0].read_bytes() == content


def test_large_states_stay_on_disk(made, tiny_bert_folder, monkeypatch):
    first = vectors(encoder(tiny_bert_folder).table(TEXTS))
    monkeypatch.setattr(state_cache, "IN_MEMORY", 8)
    mapped = encoder(tiny_bert_folder).table(TEXTS)
    assert isinstance(state_cache.states_of(
        mapped.encoder, ["a", "b"]).values, np.memmap)
    np.testing.assert_array_equal(vectors(mapped), first)
    traced = tf.function(lambda rows: mapped(rows, training=True))
    np.testing.assert_allclose(
        traced(tf.constant([1, 5])), first[[1, 5]], atol=1e-6)


def test_segments_used_longest_ago_make_room(
        made, tiny_bert_folder, monkeypatch):
    tables = [["a"], ["b"], ["c"]]
    for texts in tables[:2]:
        encoder(tiny_bert_folder).table(texts)
    old = segments()
    size = max(path.stat().st_size for path in old)
    index = [path.with_suffix(".json") for path in old]
    for n, path in enumerate(index):
        state_cache.os.utime(path, (n + 1, n + 1))
    encoder(tiny_bert_folder).table(tables[0])  # used just now
    by_age = sorted(index, key=lambda path: path.stat().st_mtime)
    monkeypatch.setattr(state_cache, "ON_DISK", 2 * size)
    encoder(tiny_bert_folder).table(tables[2])
    assert not by_age[0].exists() and by_age[1].exists()
    assert len(segments()) == 2


@pytest.mark.parametrize("name", [".left.f32.123", "left.f32"])
def test_what_a_killed_process_left_makes_room(
        made, tiny_bert_folder, monkeypatch, name):
    encoder(tiny_bert_folder).table(["a"])
    (segment,) = segments()
    left = segment.with_name(name)
    left.write_bytes(segment.read_bytes())
    state_cache.os.utime(left, (1, 1))
    monkeypatch.setattr(state_cache, "ON_DISK", 2 * segment.stat().st_size)
    encoder(tiny_bert_folder).table(["b"])
    assert not left.exists() and len(segments()) == 2


def test_what_is_too_large_is_made_in_each_step(
        made, tiny_bert_folder, monkeypatch):
    first = vectors(encoder(tiny_bert_folder).table(TEXTS))
    for path in segments():
        path.unlink()
    monkeypatch.setattr(state_cache, "ON_DISK", 8)
    table = encoder(tiny_bert_folder).table(TEXTS)
    np.testing.assert_allclose(vectors(table), first, atol=1e-6)
    assert not segments()


def test_a_disk_that_is_full_costs_the_cache_only(
        made, tiny_bert_folder, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_cache, "replace_file", full)
    one = encoder(tiny_bert_folder)
    np.testing.assert_allclose(
        vectors(one.table(TEXTS))[1:], one(tf.constant(TEXTS)), atol=1e-5)
    assert not segments()
