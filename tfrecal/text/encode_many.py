"""Encodes many texts in batches, each text once, and keeps them on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrecal.data.assets import cache_folder
from tfrecal.text.layers import packing, transformer
from tfrecal.text.options import check_texts
from tfrecal.text.vector_cache import EncodingCache, text_key

# Tokens after which the graph is built: building it takes about a second and
# saves a tenth of the time.
_WORTH_TOKENS = 2**15
# Rows come sorted by length, so a few buckets are enough.
_BUCKETS = 4

STEP_TOKENS = 4096


def encode(
    encoder,
    texts: Sequence[str],
    tokens: int = STEP_TOKENS,
    progress: bool = False,
) -> np.ndarray:
    """Encodes texts; see `TextEncoder.encode`.

    Args:
        encoder: a `TextEncoder`.
        texts: strings.
        tokens: number of tokens of a step.
        progress: whether to show a bar.

    Returns:
        float32 `[n, dim]`.
    """
    texts = check_texts(texts)
    distinct = list(dict.fromkeys(texts))
    keys = [text_key(text) for text in distinct]
    cache = None
    if distinct and encoder.weights_fingerprint() == encoder.fingerprint:
        cache = EncodingCache(_folder(encoder), encoder.dim)
    known = cache.read(keys) if cache else {}
    new = [n for n, key in enumerate(keys) if key not in known]
    if new:
        fresh = run(encoder, [distinct[n] for n in new], tokens, progress)
        if cache:
            cache.add([keys[n] for n in new], fresh)
        known.update((keys[n], vector) for n, vector in zip(new, fresh))
    vectors = np.empty([len(distinct), encoder.dim], np.float32)
    for place, key in enumerate(keys):
        vectors[place] = known[key]
    place = {text: n for n, text in enumerate(distinct)}
    return vectors[[place[text] for text in texts]]


def _folder(encoder):
    key = f"{encoder.fingerprint} {encoder.pooling} {encoder.max_length}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Path(cache_folder()) / "encodings" / name


def run(encoder, texts: list[str], tokens: int, progress: bool) -> np.ndarray:
    """Encodes texts by length, without a cache; returns `[n, dim]`."""
    ids, lengths = tokenize(encoder, texts)
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    ids = tf.constant(ids)
    # The longest come first: memory runs out at once or not at all.
    order = np.argsort(-lengths, kind="stable")
    out = np.empty([len(texts), encoder.dim], np.float32)
    step = encoder.bulk_step(int(lengths.sum()))
    with tqdm(
        total=len(texts), unit="text", desc="encoding", delay=2.0,
        disable=not progress or len(texts) < 256,
    ) as bar:
        for start, end in _batches(lengths[order], tokens):
            rows = order[start:end]
            out[rows] = step(ids, starts[rows], lengths[rows])
            bar.update(len(rows))
    return out


def states(encoder, ids: np.ndarray, lengths: np.ndarray):
    """Computes hidden states of texts below the lowest trained layer.

    Args:
        encoder: a `TextEncoder`.
        ids, lengths: what `tokenize` returned.

    Yields:
        `[tokens, hidden]` float32 of some texts, in their order.
    """
    ends = np.cumsum(lengths)
    for start, end in _batches(lengths, STEP_TOKENS):
        first = ends[start] - lengths[start]
        part = tf.constant(ids[first:ends[end - 1]])
        own = lengths[start:end]
        hidden, place = encoder.hidden_below(
            part, np.cumsum(own) - own, own
        )
        # Rows came back sorted by length; here they get their order back.
        out = np.empty(hidden.shape, np.float32)
        out[place.numpy()] = hidden.numpy()
        yield out


def tokenize(encoder, texts: list[str], step: int = 4096):
    """Returns the ids of all texts in a row, and each text's token count."""
    ids, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for start in range(0, len(texts), step):
        tokens = encoder.tokenize(tf.constant(texts[start: start + step]))
        ids.append(tokens.flat_values.numpy())
        lengths.append(tokens.row_lengths().numpy().astype(np.int32))
    return np.concatenate(ids), np.concatenate(lengths)


def _batches(lengths, tokens):
    """Cuts rows into batches of at most `tokens` tokens or one row."""
    start = 0
    while start < len(lengths):
        total = np.cumsum(lengths[start: start + tokens])
        rows = max(1, int(np.searchsorted(total, tokens, "right")))
        yield start, start + rows
        start += rows


class EncodingGraph:
    """Encodes many batches with weights that are prepared once.

    In eager steps, an encoder joins, scales and casts the weights of its
    layers again for each batch, and runs some sixty small operations to lay
    out its tokens. Each encoder has one `EncodingGraph`, whose graph is built
    when enough was encoded to pay for it.

    Args:
        encoder: a `TextEncoder`.
    """

    def __init__(self, encoder):
        self.encoder = encoder
        self._seen = 0
        self._graph = None

    def step(self, tokens: int):
        """Returns a function that encodes batches.

        Args:
            tokens: number of tokens of all batches to come.

        Returns:
            A function of `ids`, `starts` and `lengths` (see
            `TextEncoder.encode_ids`) that uses the weights that the encoder
            has now.
        """
        self._seen += tokens
        if self._seen < _WORTH_TOKENS:
            return self.encoder.encode_ids
        weights = self.encoder.ready_weights()
        if self._graph is None:
            self._graph = self._build(weights)
        return lambda ids, starts, lengths: self._graph(
            ids, starts, lengths, _bounds(lengths), weights)

    def _build(self, weights):
        encoder = self.encoder
        kind, base = encoder.architecture, encoder.base
        step = transformer.make_layer(
            kind.form, _BUCKETS, 0.0, encoder.precision, kind.attention,
            plain=True)
        ints = tf.TensorSpec([None], tf.int32)
        specs = [[tf.TensorSpec(w.shape, w.dtype) for w in layer]
                 for layer in weights]

        @tf.function(autograph=False, input_signature=[
            ints, ints, ints, tf.TensorSpec([_BUCKETS], tf.int32), specs])
        def encode(ids, starts, lengths, bounds, weights):
            layout = kind.arrange(base, packing.pack(
                starts, lengths, bounds, kind.form.heads))
            words = tf.gather(kind.words(base), tf.gather(
                ids, layout.token_index))
            hidden = kind.embed(base, words, layout)
            seed = tf.zeros([2], tf.int32)
            for layer in weights:
                hidden = step(hidden, layout, layer, seed)
            hidden = kind.finish(base, hidden)
            return encoder.head(
                packing.pool(hidden, layout, encoder.pooling))

        return encode


def _bounds(lengths) -> np.ndarray:
    """Returns ascending lengths between which tokens are equally many."""
    lengths = np.sort(lengths)
    total = np.cumsum(lengths)
    shares = np.arange(1, _BUCKETS + 1) / _BUCKETS * total[-1]
    bounds = lengths[np.minimum(
        np.searchsorted(total, shares), len(lengths) - 1)]
    # The last bound is the longest row; equal bounds are raised by one.
    steps = np.arange(_BUCKETS)
    return (np.maximum.accumulate(bounds - steps) + steps).astype(np.int32)
