"""Pieces of texts, such as people search for."""
from __future__ import annotations

import re
from typing import Sequence

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def with_pieces(texts: Sequence[str], count: int,
                rng: np.random.Generator) -> list[str]:
    """The texts, and pieces of them: distinct, in order of making.

    A piece is a run of words of one text, or, a third of them, a few words
    of two texts mixed; as written or in lower case. Short pieces are as
    likely as long ones.

    Args:
        texts: strings.
        count: how many to have in all; fewer where texts have not so many
            pieces, all of `texts` where they are more.
        rng: chooses.
    """
    found = dict.fromkeys(texts)
    words = [part for part in map(_WORD.findall, texts) if part]
    # Texts of a word or two are soon used up.
    for _ in range(4 * count if words else 0):
        if len(found) >= count:
            break
        one = _run(words[rng.integers(len(words))], rng)
        if rng.random() < 1 / 3:
            one = _run(one, rng) + _run(
                _run(words[rng.integers(len(words))], rng), rng)
            rng.shuffle(one)
        piece = " ".join(one)
        found[piece.lower() if rng.random() < 0.5 else piece] = None
    return list(found)


def _run(words, rng):
    """A run of words of any length up to all, short ones as likely."""
    length = int(rng.integers(1, len(words) + 1))
    first = int(rng.integers(len(words) - length + 1))
    return words[first:first + length]
