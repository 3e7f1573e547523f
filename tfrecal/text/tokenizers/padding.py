"""Checks the padding token of kinds that count places from it."""
from __future__ import annotations

from pathlib import Path
from typing import Sequence

from tfrecal.text.tokenizers.json_files import read_options

# Place 0 is not used, 1 is for padding, and a token of this id has no place.
PAD_ID = 1


def check_padding(folder: Path, vocabulary: Sequence[str]) -> None:
    """Checks that the tokenizer pads with the token of the id `PAD_ID`.

    Args:
        folder: the checkpoint's folder.
        vocabulary: the tokens, each in the place of its id.

    Raises:
        ValueError: it pads with another token.
    """
    token, place = "<pad>", "the kind's own"
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = Path(folder) / name
        given = read_options(path).get("pad_token")
        if given is not None:
            token, place = given, str(path)
    if isinstance(token, dict):
        token = token.get("content")
    if list(vocabulary[PAD_ID:PAD_ID + 1]) != [token]:
        raise ValueError(
            f"The tokenizer must pad with the token of pad_token_id={PAD_ID} "
            f"in config.json. Received: pad_token={token!r} ({place}) and "
            f"{list(vocabulary[PAD_ID:PAD_ID + 1])} at that id in {folder}. "
            "Take both from the folder that the weights came from.")
