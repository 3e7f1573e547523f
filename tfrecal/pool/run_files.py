"""Files of a run folder: what they hold, and what must hold of them."""
from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.checks import read_json
from tfrecal.files import damaged, read_sealed

STATE = "The state of a run must be as it was written"
STATE_CURE = (
    "Bring it back from a backup. Without one, move `state.json`, `pool` and "
    "`weights` away: `tfrecal run --resume` then begins anew and buys no "
    "answer twice that the journal holds.")
_HISTORY_CURE = ("Bring it back from a backup: the rows of earlier epochs "
                 "stand nowhere else.")


def read_lines(path, cure: str) -> list[dict]:
    """Reads JSON lines; none where there is no file.

    Raises:
        ValueError: a line is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        return []
    must = "Every line must be a whole JSON object"
    if path.is_dir():
        raise damaged(path, must, "which is a folder", cure)
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                found.append(None)
            if not isinstance(found[-1], dict):
                raise damaged(path, must, f"whose line {number} is none",
                              cure)
    return found


def _is_number(value) -> bool:
    return (isinstance(value, (int, float)) and not isinstance(value, bool)
            and -1e300 < value < 1e300)


def _whole(least: int):
    return lambda value: (isinstance(value, int) and not isinstance(
        value, bool) and least <= value < 1 << 53)


def _dicts(value) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) for one in value)


def _is(kind):
    return lambda value: isinstance(value, kind)


def _matches(pattern: str):
    return lambda value: isinstance(value, str) and re.fullmatch(
        pattern, value)


#: What must hold of the entries of `state.json`, if they are there.
_STATE = {
    "epoch": _whole(0), "rows": _whole(0), "stop": _whole(1),
    "saves": _whole(1), "finished": _is(bool), "encoder": _is(str),
    "pool": _matches(r"pool/\d+\.npz"), "checkpoint": _matches(r"ckpt-\d+"),
    "history": _dicts, "acquire": _is(dict), "files": _is(dict),
    "test": _is(dict), "linear_block": _is(dict),
    "run": lambda value: value is None or isinstance(
        value, str)}
_ACQUIRE = {
    "round": _whole(0), "first_round": _whole(0), "exhausted": _is(str),
    "stopped": _is(str), "last_labels": _whole(-1), "explanations": _dicts,
    "strategy": _is(dict), "oracle": _is(dict), "journal": _whole(0),
    "journal_sum": _matches("[0-9a-f]{8}")}


def read_state(path) -> dict:
    """Reads `state.json`.

    Raises:
        ValueError: the file is damaged, or holds other than a state.
    """
    state, must = read_sealed(path, STATE, STATE_CURE), STATE
    for rules, values, of in ((_STATE, state, ""), (
            _ACQUIRE, state.get("acquire") or {}, "acquire.")):
        if not isinstance(values, dict):
            continue  # refused by the rule of `acquire`
        for name, holds in rules.items():
            if name in values and not holds(values[name]):
                raise damaged(
                    path, must, f"with {of}{name}="
                    f"{json.dumps(values[name])[:40]}", STATE_CURE)
    if "epoch" in state:
        missing = {"rows", "stop", "finished"} - state.keys()
        if missing:
            raise damaged(path, must, f"without {sorted(missing)[0]}",
                          STATE_CURE)
        if state["stop"] <= state["epoch"]:
            raise damaged(path, must, f"with epoch={state['epoch']} and stop="
                          f"{state['stop']}", STATE_CURE)
        history = state.get("history")
        if history is not None and len(history) <= state["epoch"]:
            raise damaged(path, must, f"with {len(history)} rows of history",
                          STATE_CURE)
    return state


def read_test(path) -> dict[str, float]:
    """Reads `test.json`.

    Raises:
        ValueError: the file is damaged, or holds other than figures.
    """
    cure = "Delete it: `tfrecal run --resume` measures the test part anew."
    found = read_json(path, "The figures of the test part", cure)
    if not {"rows", "users"} <= found.keys() or not all(
            map(_is_number, found.values())):
        raise damaged(path, "Figures of the test part must be numbers by "
                      "name", "which holds others", cure)
    return found


def read_history(path: Path, epoch: int) -> pd.DataFrame:
    """Reads `history.csv`, with its form as the only check.

    Args:
        path: path of the file.
        epoch: the last whole epoch.

    Raises:
        ValueError: the file is missing or damaged.
    """
    must = "The history of a run must have a whole row for each epoch"
    if not path.is_file():
        raise damaged(path, must, "which is a folder" if path.is_dir() else
                      "which is missing", _HISTORY_CURE)
    try:
        # With this exact parser, rows are written again as they were read.
        found = pd.read_csv(path, float_precision="round_trip")
    except (ValueError, OSError) as error:
        raise damaged(path, must, f"which is no such table: {error}",
                      _HISTORY_CURE) from None
    numbers = found.drop(columns="part", errors="ignore")
    wrong = [name for name in numbers
             if not pd.api.types.is_numeric_dtype(numbers[name])]
    missing = {"epoch", "rows", "cost"} - set(found)
    if wrong or missing:
        why = (f"without a column {sorted(missing)[0]}" if missing else
               f"whose column {wrong[0]} holds other than numbers")
    elif not path.read_bytes().endswith(b"\n"):
        why = "whose last line is cut off"
    elif list(found["epoch"]) != list(range(len(found))):
        why = "whose epochs are not 0, 1, 2, ..."
    elif len(found) <= epoch:
        why = f"which ends before epoch {epoch}"
    elif not (found["rows"] >= 0).all() or not (found["cost"] >= 0).all():
        why = "with rows or costs below 0"
    elif not set(found.get("part", ())) <= {"validation", "test", np.nan}:
        why = "with other parts than validation and test"
    else:
        return found
    raise damaged(path, must, why, _HISTORY_CURE)


def read_acquisitions(path) -> pd.DataFrame:
    """Reads `acquisitions.parquet`.

    Raises:
        ValueError: the file is no such table.
    """
    must = "The questions of a run must be a table of Parquet"
    cure = "Go on with `tfrecal run --resume FOLDER`, or delete it."
    kinds = {"ticket": "i", "round": "i", "label": "f", "cost": "f",
             "utility": "f", "user_id": "OSTU", "item_id": "OSTU",
             "strategy": "OSTU", "state": "OSTU"}
    return read_table(path, kinds, must, cure)


def read_table(path, kinds: dict[str, str], must: str,
               cure: str) -> pd.DataFrame:
    """Reads a Parquet file that must have some columns.

    Args:
        path: path of the file.
        kinds: column -> the kinds that its dtype may have.
        must, cure: as of `files.damaged`.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        found = pd.read_parquet(path)
    # Damaged bytes raise errors of many classes in pyarrow.
    except Exception as error:
        raise damaged(path, must, f"which cannot be read: {error}",
                      cure) from None
    # Without rows, pandas may write a column of texts as one of numbers.
    wrong = [name for name, kind in kinds.items() if name not in found
             or len(found) and found[name].dtype.kind not in kind]
    if wrong:
        raise damaged(path, must, f"whose column {wrong[0]!r} is missing or "
                      "of another kind", cure)
    return found


def texts(state: dict) -> dict[str, bytes]:
    """Returns the contents of files for people that a state holds."""
    found = {}
    if "history" in state:
        found["history.csv"] = history_text(state["history"])
    if "explanations" in state.get("acquire", {}):
        found["explanations.jsonl"] = "".join(
            json.dumps(one) + "\n"
            for one in state["acquire"]["explanations"]).encode()
    if "test" in state:
        found["test.json"] = test_text(state["test"])
    return found


def history_text(rows) -> bytes:
    """Returns what `history.csv` holds, for rows as dicts."""
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()


def test_text(figures: dict) -> bytes:
    """Returns what `test.json` holds."""
    return json.dumps(figures, indent=1).encode()


def parquet(table: pd.DataFrame) -> bytes:
    """Returns a table as a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()
