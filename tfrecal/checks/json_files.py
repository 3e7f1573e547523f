"""Reads JSON that people or other programs wrote: one object, strictly."""
from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

from tfrecal.checks.words import shown

_DIGITS = 300  # of a whole number


def read_json(path, what: str, cure: str = "") -> dict:
    """Reads a JSON file that holds one object.

    Args:
        path: path of the file.
        what: what the file is, for the message, such as `"A config"`.
        cure: a sentence to end the message with.

    Returns:
        The object.

    Raises:
        ValueError: there is no such file, or it cannot be read, is not in
            UTF-8, or `parse_json` refuses its text.
    """
    try:
        # utf-8-sig: some editors begin a file with a byte order mark.
        return parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        why = "which is missing"
    except IsADirectoryError:
        why = "which is a folder"
    except UnicodeDecodeError as error:
        why = f"which is not in UTF-8 (byte {error.start})"
    except OSError as error:
        why = f"which cannot be read ({error.strerror})"
    except ValueError as error:
        why = str(error)
    raise ValueError(f"{what} must be a file with a JSON object. Received: "
                     f"{path}, {why}. {cure}".rstrip())


def parse_json(text: str | bytes) -> dict:
    """Returns the JSON object that a text holds.

    Raises:
        ValueError: the text is no JSON object, holds a name twice, NaN or an
            infinite number, or is nested too deep; the message says where,
            and is to follow the name of the text.
    """
    if not text.strip():
        raise ValueError("which is empty")
    try:
        found = json.loads(text, object_pairs_hook=_distinct,
                           parse_constant=_finite, parse_float=_finite,
                           parse_int=_whole)
    except RecursionError:
        raise ValueError("which is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"which is no JSON: line {error.lineno}, column "
                         f"{error.colno}: {error.msg}") from None
    if not isinstance(found, dict):
        raise ValueError(f"which holds {shown(found)}")
    return found


def _distinct(pairs: list) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(name for name, _ in pairs)
        raise ValueError(
            f"in which {shown(times.most_common(1)[0][0])} stands twice")
    return found


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"which holds a number of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"which holds {shown(text)}, no finite number")
    return number
