"""Checks that a model does what the protocol asks, for this pool."""
from __future__ import annotations

import contextlib

import numpy as np
import tensorflow as tf

from tfrecal.model.protocol import BLOCKS, EMBED, Offers, blocks_of

_OWN = {"query": "user_id", "candidate": "item_id"}
_PROBED = 8  # users and items that are embedded before anything is bought
_AT_ONCE = 2048  # the same where those few look alike


def check(model, pool) -> Offers:
    """Checks a model before anything is bought or exported.

    It embeds a few of the pool's users and items.

    Args:
        model: any model.
        pool: the `Pool` whose users and items are embedded.

    Returns:
        What the model offers.

    Raises:
        TypeError: it lacks a function.
        ValueError: the functions fail on the pool's ids, or return another
            rank, number of rows or width than they must, numbers that are
            not finite, different vectors in a second call or beside other
            rows, or the same for all ids.
    """
    offers = Offers.of(model)
    features = offers.features(pool)
    found = {}
    for side, ids in (("query", pool.user_ids),
                      ("candidate", pool.item_ids)):
        # Spread over all: a vocabulary may lack the first or the last.
        codes = np.linspace(1, len(ids), min(len(ids), _PROBED)).astype(
            np.int32)
        found[side] = _checked_blocks(
            model, side, lambda codes: features(side, codes), codes)
        if offers.ids == "strings" and (
                _OWN[side] in features.names[side]):
            _check_tells_apart(model, side, features, found[side], len(ids))
    for block in BLOCKS:
        check_width(*(found[side][block] for side in EMBED), block)
    if offers.labels:
        _check_labels(model)
    return offers


def _checked_blocks(model, side, features, codes) -> dict[str, np.ndarray]:
    """Returns the blocks of a few rows, checked."""
    name, rows = EMBED[side], len(codes)
    once, twice = (_blocks(model, side, features(codes)) for _ in range(2))
    for block, vectors in once.items():
        where = f"`{name}`" if vectors is once["rating"] else (
            f"`{name}` ({block!r})")
        if vectors.ndim != 2 or len(vectors) != rows or (
                not vectors.shape[1]) or not _is_float(vectors):
            raise ValueError(
                f"{where} must return float vectors [B, d], a row for each "
                f"of B={rows}. Received: shape={vectors.shape}, "
                f"dtype={vectors.dtype}.")
        vectors = vectors.astype(np.float32)
        check_finite(name, vectors)
        if not np.array_equal(vectors, twice[block].astype(np.float32)):
            raise ValueError(
                f"{where} must return the same vectors each time. Received: "
                "others in a second call with the same features. Turn "
                "dropout and noise off in it: they belong to training.")
        once[block] = vectors
    if rows > 1:
        _check_rows_alone(name, once, _blocks(
            model, side, features(codes[:-1])))
    return once


def _check_rows_alone(name, vectors, fewer) -> None:
    """Raises where a vector is another one in a batch without the last."""
    for block, before in vectors.items():
        after = fewer[block].astype(np.float32)
        # Batches of other sizes round otherwise.
        if after.shape != before[:-1].shape or not np.allclose(
                after, before[:-1], rtol=0.05,
                atol=0.05 * np.abs(before).max()):
            raise ValueError(
                f"`{name}` must make each vector of its own row. Received: "
                f"others for {len(before) - 1} rows when row {len(before)} "
                "is left out. Pass `training=False` to BatchNormalization, "
                "and mask what fills histories up.")


def _is_float(vectors) -> bool:
    try:  # NumPy itself does not know bfloat16 as one
        return tf.as_dtype(vectors.dtype).is_floating
    except TypeError:
        return False


def _blocks(model, side, features) -> dict[str, np.ndarray]:
    name = EMBED[side]
    given = {key: tf.convert_to_tensor(value) if not isinstance(
        value, tf.RaggedTensor) else value for key, value in features.items()}
    with explained(name, given):
        return {block: np.asarray(value) for block, value in blocks_of(
            getattr(model, name)(given), name).items()}


def check_width(query, candidate, block: str) -> None:
    """Raises ValueError where vectors of two sides have no inner product."""
    if query.shape[1] != candidate.shape[1]:
        raise ValueError(
            "Queries and candidates must have vectors of one width. "
            f"Received: `embed_queries` with {query.shape[1]}, "
            f"`embed_candidates` with {candidate.shape[1]}"
            + ("" if block == "rating" else f" (block {block!r})") + ".")


def check_finite(name: str, vectors) -> None:
    """Raises ValueError where vectors of a function are NaN or infinite."""
    wrong = ~np.isfinite(vectors).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"Vectors of `{name}` must be finite. Received: "
            f"{int(wrong.sum())} of {len(vectors)} rows with NaN or infinite "
            "numbers. A model that diverged gives them: train it anew with "
            "a lower learning rate.")


def _check_tells_apart(model, side, features, found, total) -> None:
    vectors = found["rating"]
    if len(vectors) < 2 or not vectors.any() or (vectors != vectors[0]).any():
        return
    # A few may all be unknown to the model: not all of them.
    for start in range(1, total + 1, _AT_ONCE):
        codes = np.arange(start, min(start + _AT_ONCE, total + 1),
                          dtype=np.int32)
        more = _blocks(model, side, features(side, codes))["rating"]
        if (more.astype(np.float32) != vectors[0]).any():
            return
    own = _OWN[side]
    raise ValueError(
        f"`{EMBED[side]}` must tell ids apart. Received: one vector for all "
        f"{total}, such as {features(side, codes[:1])[own][0]!r}. Has your "
        "lookup another vocabulary, or ids of another type? Those of the "
        "pool are strings.")


@contextlib.contextmanager
def explained(name: str, features: dict):
    """A context that names the features a model's function failed on.

    Args:
        name: name of the function.
        features: what it was given, name -> array or tensor.

    Raises:
        ValueError: whatever it raised, as its cause.
    """
    try:
        yield
    except Exception as error:  # of layers, lookups, operations
        if "must return vectors" in str(error):
            raise
        what = ", ".join(
            f"{key}: {tf.as_dtype(value.dtype).name} {list(value.shape)}"
            for key, value in features.items())
        raise ValueError(
            f"`{name}` must embed the pool's features ({what}). Received: "
            f"{_cause(error)}. Declare what it "
            "reads in `query_features` and `candidate_features`; ids are "
            "strings, or codes with `ids = \"codes\"`.") from error


def _cause(error) -> str:
    """Returns an error's kind and the line that says why."""
    kind = f"{type(error).__name__}: "
    lines = [line.strip() for line in str(error).splitlines()
             if line.strip() and not line.strip().startswith("[[")]
    if not lines:
        return f"{kind}no message"
    if lines[0] in ("Graph execution error:", "in user code:"):
        lines.reverse()
    elif lines[0].startswith("Exception encountered when calling"):
        lines = lines[1:] or lines
    return kind + lines[0].removeprefix(kind)[:300].rstrip(".")


def _check_labels(model) -> None:
    score = np.linspace(-1, 1, 5, dtype=np.float32)
    try:
        label = np.asarray(model.predict_label(score.copy()))
    except Exception as error:
        raise ValueError(
            "`predict_label` must turn scores [B] into labels [B]. Received: "
            f"{_cause(error)}.") from error
    if label.shape != score.shape or not np.isfinite(label).all():
        raise ValueError(
            "`predict_label` must turn scores [B] into finite labels [B]. "
            f"Received: shape={label.shape} for 5 scores from -1 to 1.")
