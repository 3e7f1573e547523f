"""TextIds: makes token ids by byte-level BPE, without TensorFlow."""
from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

FILE = "tokenizer.json"
_MANIFEST = "tfrecal.json"


def take_whole_texts(tokenizer: Tokenizer) -> None:
    """Makes a tokenizer cut and pad nothing, and read no special tokens."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True


class TextIds:
    """Makes the ids of texts that the model was trained with.

    Clients use it too.

    Args:
        tokenizer: a `Tokenizer` of the `tokenizers` library; it is altered
            so that special tokens written in a text are text.
        before, after: ids around each text.
        max_length: the largest number of ids of a text, with those around it.
        strips: whether white space around a text is cut.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int],
                 after: Sequence[int], max_length: int,
                 strips: bool = False):
        take_whole_texts(tokenizer)
        self._tokenizer = tokenizer
        self.before, self.after = list(before), list(after)
        self.max_length = max_length
        self.strips = strips

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text."""
        most = self.max_length - len(self.before) - len(self.after)
        if self.strips:
            texts = [text.strip() for text in texts]
        return [
            self.before + found.ids[:most] + self.after
            for found in self._tokenizer.encode_batch(
                list(texts), add_special_tokens=False)]

    @classmethod
    def from_export(cls, folder) -> TextIds | None:
        """Reads the tokenizer that an export brings along.

        Args:
            folder: a version folder, the base path above it (the newest
                version counts), or a copy of its `assets.extra`.

        Returns:
            The tokenizer, or None where the model reads texts as they are.

        Raises:
            ValueError: the folder holds no export, or one that is not whole.
        """
        place = _extra(Path(folder))
        manifest = _read(place / _MANIFEST)
        if manifest.get("tokenizer") != "client":
            return None
        facts = [manifest.get(name) for name in (
            "tokenizer_before", "tokenizer_after", "max_length")]
        if None in facts:
            raise ValueError(
                "The manifest of an export must say how to tokenise. "
                f"Received: {place / _MANIFEST}, which does not. Export the "
                "model again.")
        try:
            tokenizer = Tokenizer.from_file(str(place / FILE))
        except Exception as error:  # the library raises no narrower one
            raise ValueError(
                f"An export whose texts the client tokenises must bring "
                f"`{FILE}`. Received: {place / FILE}: {error}. Copy it from "
                "where the model is served.") from error
        return cls(tokenizer, *facts,
                   manifest.get("tokenizer_strips") is True)


def _extra(folder: Path) -> Path:
    """Returns the folder that holds the manifest."""
    versions = []
    if folder.is_dir():
        versions = sorted(
            (path for path in folder.iterdir() if path.name.isdecimal()),
            key=lambda path: -int(path.name))
    for place in (folder, folder / "assets.extra",
                  *(path / "assets.extra" for path in versions)):
        if (place / _MANIFEST).is_file():
            return place
    raise ValueError(
        "`tokenizer` must be the folder of an export. Received: "
        f"{folder}, which holds no version with a manifest. Give the base "
        "path of the model, as `tfrecal export --to` did.")


def _read(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        error = "no object"
    except ValueError as wrong:
        error = wrong
    raise ValueError(f"A manifest must be a JSON object. Received: {path}: "
                     f"{error}. Export the model again.")
