"""Records of retrainings: checked when they are read.

A record lies in the loop's folder while its retraining runs, and in the
feedback store. This module needs no TensorFlow.
"""
from __future__ import annotations

import json
import math
from numbers import Integral, Real
from pathlib import Path

from tfrecal.files import damaged, read_sealed, write_sealed
from tfrecal.retrain.versions import is_run

# What a record must hold from its first writing on.
_FIRST = ("until", "now", "base_version", "base_run", "started")


def write(path, record: dict) -> None:
    """Stores the record of a retraining that is not finished."""
    write_sealed(path, record)


def read(path) -> dict:
    """Returns what `write` stored.

    Raises:
        ValueError: the file is missing, damaged, or holds something else.
    """
    path = Path(path)
    must = "The record of a retraining must be as it was written"
    cure = (f"Bring it back from a copy, or remove {path.parent}: the "
            "retraining is then done again.")
    record = read_sealed(path, must, cure)
    record.pop("format", None)
    wrong = _wrong(record, _FIRST)
    if wrong:
        raise damaged(path, must, wrong, cure)
    return record


def of_row(row, url: str = "the feedback store") -> dict:
    """Returns the record of a row of `FeedbackStore.retrainings`.

    Raises:
        ValueError: it is no record.
    """
    try:
        record = json.loads(row.record)
    except (ValueError, TypeError, RecursionError):
        record = None
    wrong = ("which is no JSON object" if not isinstance(record, dict)
             else _wrong(record))
    if wrong:
        raise damaged(
            f"retraining {row.run_id} in {url}",
            "The record of a retraining must be as it was written", wrong,
            "Bring the store back from a copy, or begin a new loop (`-o`) "
            "with a store of its own (`--feedback`).")
    return record


def of_run(store, run: str) -> dict:
    """Returns the record that a store has of a retraining; empty without.

    Args:
        store: the `FeedbackStore`.
        run: the retraining's number, or "".

    Raises:
        ValueError: see `of_row`.
    """
    found = store.retrainings()
    found = found[found["run_id"].astype(str) == run]
    return of_row(next(found.itertuples()), store.url) if len(found) else {}


def _wrong(record: dict, needed=()) -> str:
    """Returns what is wrong with a record, or ""."""
    for name in needed:
        if name not in record:
            return f"which has no `{name}`"
    for name, holds in _HOLD.items():
        if name in record and not holds(record[name]):
            return f"which holds {name}={str(record[name])[:60]!r}"
    return ""


def _is_real(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_finite(value) -> bool:
    return _is_real(value) and math.isfinite(value)


def _is_whole(value) -> bool:
    return _is_real(value) and isinstance(value, Integral) and value >= 0


def _is_gate(value) -> bool:
    names = ("serving", "candidate")
    return isinstance(value, dict) and isinstance(
        value.get("metric"), str) and _is_whole(value.get("users")) and all(
            value.get(name) is None or _is_finite(value[name])
            for name in names)


_HOLD = {
    "until": lambda value: _is_real(value) and value < math.inf,
    "now": _is_finite, "started": _is_finite, "base_version": _is_whole,
    "base_run": is_run, "gate": _is_gate,
    "only_grow": lambda value: isinstance(value, bool),
    "force": lambda value: isinstance(value, bool),
    "reset": lambda value: isinstance(value, bool),
    "reason": lambda value: isinstance(value, str),
    "options": lambda value: isinstance(value, str),
    "loop": lambda value: isinstance(value, str),
    "fingerprint": lambda value: isinstance(value, str),
    "counts": lambda value: isinstance(value, dict) and all(
        map(_is_whole, value.values())),
    "scale": lambda value: isinstance(value, list) and len(value) == 2
    and all(map(_is_finite, value))}
