"""Byte-level BPE outside of graphs: token ids for RoBERTa and GPT-2."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Sequence

import tensorflow as tf
from tokenizers import Tokenizer, models, pre_tokenizers

from tfrecal.text.tokenizers.client_tokenizer import FILE, TextIds
from tfrecal.text.tokenizers.json_files import read_options

_PARTS = ("vocab.json", "merges.txt")


class BytePairs:
    """Makes ids of texts as Hugging Face's fast tokenizers do.

    TensorFlow Text has no such op, so it runs outside of graphs: a
    `tf.function` and a served model must be given ids.

    There is one intended difference: `"</s>"` written in a text is text,
    never a special token.

    Args:
        tokenizer: a `Tokenizer` of the `tokenizers` library; it is altered.
        before, after: special tokens around a text.

    Raises:
        ValueError: the tokenizer is no byte-level BPE, or lacks a special
            token.
    """

    in_graph = False

    def __init__(
        self,
        tokenizer: Tokenizer,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ):
        if not isinstance(tokenizer.model, models.BPE):
            raise ValueError(
                f"`{FILE}` must be of a BPE tokenizer. Received: one of "
                f"type {type(tokenizer.model).__name__}. Take it from the "
                "folder that the weights came from."
            )
        marks = (*before, *after)
        missing = [t for t in marks if tokenizer.token_to_id(t) is None]
        if missing:
            raise ValueError(
                f"The tokenizer must hold {', '.join(marks)}. Received: "
                f"{tokenizer.get_vocab_size()} tokens without "
                f"{', '.join(missing)}. Take it from the folder that the "
                "weights came from."
            )
        self._ids = TextIds(
            tokenizer, [tokenizer.token_to_id(token) for token in before],
            [tokenizer.token_to_id(token) for token in after], 0)
        # A client needs the tokenizer as it is without truncation.
        self.whole = tokenizer.to_str()

    @property
    def facts(self) -> list:
        """All that the ids of a text depend on."""
        return [hashlib.sha256(self.whole.encode()).hexdigest()]

    @property
    def client_facts(self) -> dict:
        """What a client needs besides `whole`, for the manifest."""
        return {"tokenizer_file": FILE, "tokenizer_before": self._ids.before,
                "tokenizer_after": self._ids.after}

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        vocab_size: int,
        kind: str,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> BytePairs:
        """Reads `tokenizer.json`, or `vocab.json` and `merges.txt`.

        Args:
            folder: the checkpoint's folder.
            vocab_size: the number of tokens that there must be.
            kind: what the name of its tokenizer class must begin with.
            before, after: special tokens around a text.

        Raises:
            ValueError: the files are missing or broken, do not have
                `vocab_size` tokens, or ask for another kind of tokenizer.
        """
        folder = Path(folder)
        options = _options(folder, kind)
        files = [FILE] if (folder / FILE).is_file() else list(_PARTS)
        if not all((folder / name).is_file() for name in files):
            raise ValueError(
                f"The checkpoint must come with its `{FILE}`, or with "
                f"{' and '.join(_PARTS)}. Received: no such files in "
                f"{folder}. Copy them from the folder that the weights came "
                "from."
            )
        try:
            tokenizer = _read(folder, files, options)
        except Exception as error:  # the library raises no narrower one
            raise ValueError(
                f"{' and '.join(files)} must be of a tokenizer. Received: "
                f"{folder}: {error}. Fetch them again."
            ) from error
        size = tokenizer.get_vocab_size()
        if size != vocab_size:
            raise ValueError(
                "The tokenizer must have `vocab_size` tokens. Received: "
                f"{size} tokens, vocab_size={vocab_size} in config.json of "
                f"{folder}. The two are of different checkpoints, or a file "
                "was cut off: fetch both again."
            )
        return cls(tokenizer, before, after)

    def tokenize(self, texts: tf.Tensor, max_length: int) -> tf.RaggedTensor:
        """Turns strings `[n]` into int32 ids `[n, None]`.

        Args:
            texts: the strings.
            max_length: the largest number of ids of a text.

        Raises:
            ValueError: it is called in a graph.
        """
        if tf.is_symbolic_tensor(texts):
            raise ValueError(
                "Texts of a byte-level BPE checkpoint must be tokenised "
                "outside of a graph. Received: strings inside a "
                "`tf.function`. Give the ids that `TextEncoder.tokenize` "
                "makes of them, or a checkpoint with WordPiece or "
                "SentencePiece."
            )
        strings = [text.decode(errors="replace") for text in texts.numpy()]
        self._ids.max_length = max_length
        rows = self._ids(strings)
        return tf.RaggedTensor.from_row_lengths(
            tf.constant([n for row in rows for n in row], tf.int32),
            tf.constant([len(row) for row in rows], tf.int32),
        )


def _options(folder, kind):
    path = folder / "tokenizer_config.json"
    options = read_options(path)
    asked = options.get("tokenizer_class", f"{kind}Tokenizer")
    if asked.removesuffix("Fast") != f"{kind}Tokenizer":
        raise ValueError(
            f"The checkpoint's tokenizer must be a {kind}Tokenizer. "
            f"Received: tokenizer_class={asked!r} in {path}. Choose another "
            "checkpoint."
        )
    return options


def _read(folder, files, options):
    if files == [FILE]:
        return Tokenizer.from_file(str(folder / FILE))
    vocabulary, merges = (str(folder / name) for name in files)
    tokenizer = Tokenizer(models.BPE.from_file(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=options.get("add_prefix_space", False))
    return tokenizer
