"""SentencePiece in the graph: token ids for ALBERT and XLNet."""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from pathlib import Path
from typing import Callable, Sequence

import tensorflow as tf
import tensorflow_text as tf_text

from tfrecal.text.tokenizers.json_files import option, read_options

_SPACE = "\u2581"  # how SentencePiece writes the start of a word
_FILE = "spiece.model"


class SentencePiece(tf.Module):
    """Makes ids of texts as Hugging Face's slow tokenizers do.

    Args:
        model: the bytes of a SentencePiece model.
        lower_case: whether to turn texts into lower case.
        keep_accents: whether to keep accents and compatibility characters.
        before, after: special tokens around a text.

    Raises:
        ValueError: `model` is no SentencePiece model, or lacks a special
            token.
    """

    in_graph = True

    def __init__(
        self,
        model: bytes,
        lower_case: bool,
        keep_accents: bool = False,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ):
        super().__init__()
        self.lower_case = lower_case
        self.keep_accents = keep_accents
        self._digest = hashlib.sha256(model).hexdigest()
        try:
            self._tokenizer = tf_text.SentencepieceTokenizer(
                model, out_type=tf.int32
            )
            self.size = int(self._tokenizer.vocab_size())
        except tf.errors.OpError as error:
            raise ValueError(
                f"`{_FILE}` must be a SentencePiece model. Received: "
                f"{len(model)} bytes: {' '.join(error.message.split())} Fetch "
                "it again."
            ) from error
        strings = self._tokenizer.id_to_string(tf.range(self.size)).numpy()
        pieces = [piece.decode() for piece in strings]
        missing = [t for t in (*before, *after) if t not in pieces]
        if missing:
            raise ValueError(
                f"`{_FILE}` must hold {', '.join((*before, *after))}. "
                f"Received: {self.size} pieces without {', '.join(missing)}. "
                "Take it from the folder that the weights came from."
            )
        self._before = [pieces.index(token) for token in before]
        self._after = [pieces.index(token) for token in after]
        self._split = _split_commas(model, pieces, self._tokenizer)
        self._spaces = _characters(str.isspace)
        self._accents = _characters(unicodedata.combining)

    @property
    def facts(self) -> list:
        """All that the ids of a text depend on."""
        return [self.lower_case, self.keep_accents, self._digest]

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        vocab_size: int,
        kind: str,
        lower_case: bool,
        before: Sequence[str],
        after: Sequence[str],
    ) -> SentencePiece:
        """Reads `spiece.model` and `tokenizer_config.json` of a checkpoint.

        Args:
            folder: the checkpoint's folder.
            vocab_size: the number of pieces that there must be.
            kind: what the name of its tokenizer class must begin with.
            lower_case: whether to turn texts into lower case where the
                folder does not say.
            before, after: special tokens around a text.

        Raises:
            ValueError: the model is missing, does not have `vocab_size`
                pieces, or the options ask for another kind of tokenizer.
        """
        path = Path(folder) / _FILE
        if not path.is_file():
            raise ValueError(
                f"The checkpoint must come with its `{_FILE}`. "
                f"Received: no such file in {folder}. Copy it from the folder "
                "that the weights came from."
            )
        options = _options(Path(folder), kind)
        made = cls(
            path.read_bytes(), options.get("do_lower_case", lower_case),
            options.get("keep_accents", False), before, after,
        )
        if made.size != vocab_size:
            raise ValueError(
                f"`{_FILE}` must have `vocab_size` pieces. Received: "
                f"{made.size} pieces, vocab_size={vocab_size} in config.json "
                f"of {folder}. The two are of different checkpoints: fetch "
                "both again."
            )
        return made

    def tokenize(self, texts: tf.Tensor, max_length: int) -> tf.RaggedTensor:
        """Turns strings `[n]` into int32 ids `[n, None]`.

        Args:
            texts: the strings.
            max_length: the largest number of ids of a text.
        """
        tokens = self._tokenizer.tokenize(self._normalise(texts))
        if self._split is not None:
            tokens = tf.gather(self._split, tokens).merge_dims(1, 2)
        edge = tf.ones([tokens.nrows(), 1], tf.int32)
        marks = len(self._before) + len(self._after)
        return tf.concat(
            [
                *(edge * mark for mark in self._before),
                tokens[:, : max_length - marks],
                *(edge * mark for mark in self._after),
            ],
            1,
        )

    def _normalise(self, texts):
        replace = tf.strings.regex_replace
        texts = tf.strings.strip(replace(texts, f"{self._spaces}+", " "))
        texts = replace(replace(texts, "``", '"'), "''", '"')
        if not self.keep_accents:
            texts = tf_text.normalize_utf8(texts, "NFKD")
            texts = replace(texts, self._accents, "")
        if self.lower_case:
            # ASCII first, because some locales lower-case "I" in their own
            # way.
            texts = tf.strings.lower(tf.strings.lower(texts), encoding="utf-8")
        return texts


def _options(folder, kind):
    path = folder / "tokenizer_config.json"
    options = read_options(path)
    asked = option(options, "tokenizer_class", str, f"{kind}Tokenizer", path)
    for name in ("do_lower_case", "keep_accents"):
        option(options, name, bool, None, path)
    if (
        asked.removesuffix("Fast") != f"{kind}Tokenizer"
        or options.get("remove_space", True) is not True
    ):
        raise ValueError(
            f"The checkpoint's tokenizer must be a {kind}Tokenizer that "
            f"removes spaces. Received: tokenizer_class={asked!r}, "
            f"remove_space={options.get('remove_space', True)} in {path}. "
            "Choose another checkpoint."
        )
    return options


def _split_commas(model, pieces, tokenizer) -> tf.RaggedTensor | None:
    """Returns the ids into which each piece such as "9," is split.

    There is a row for each piece; most hold the piece itself. The result is
    None where no piece is split.
    """
    ends = [n for n, p in enumerate(pieces)
            if len(p) > 1 and p[-1] == "," and p[-2].isdigit()]
    if not ends:
        return None
    in_pieces = tf_text.SentencepieceTokenizer(model, out_type=tf.string)
    rows = [[n] for n in range(len(pieces))]
    for n in ends:
        number = pieces[n][:-1].replace(_SPACE, "")
        split = [p.decode() for p in in_pieces.tokenize(number).numpy()]
        if pieces[n][0] != _SPACE and split[0][0] == _SPACE:
            split[:1] = [split[0][1:]] if len(split[0]) > 1 else []
        ids = tokenizer.string_to_id(tf.constant([*split, ","]))
        rows[n] = ids.numpy().tolist()
    return tf.ragged.constant(rows, dtype=tf.int32)


def _characters(wanted: Callable[[str], object]) -> str:
    """Returns characters of a kind as a class of a regular expression."""
    places = [c for c in range(sys.maxunicode + 1) if wanted(chr(c))]
    ends = [p for p, after in zip(places, [*places[1:], -1]) if after != p + 1]
    starts = [p for p, last in zip(places, [-1, *places]) if p != last + 1]
    spans = (rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in zip(starts, ends))
    return f"[{''.join(spans)}]"
