"""Allowed values of options of `TextEncoder`. It needs no TensorFlow."""
from __future__ import annotations

from typing import Sequence

TUNINGS = ("frozen", "top_n", "lora", "bitfit", "full")
PRECISIONS = ("float32", "bfloat16")
#: What a run reads texts with, unless told otherwise.
ENCODER, MAX_LENGTH = "minilm", 64


def check_texts(texts: Sequence[str]) -> list[str]:
    """Returns the texts as a list of strings.

    Raises:
        TypeError: `texts` is one string, or an element is no string.
    """
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            "`texts` must be a sequence of strings. Received: the one "
            f"string {texts!r:.60}. Put it in a list."
        )
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(
                f"`texts` must hold strings only. Received: {text!r:.60} of "
                f"type {type(text).__name__} at place {place}. Replace "
                "missing texts by an empty string."
            )
    return [str(text) for text in texts]
