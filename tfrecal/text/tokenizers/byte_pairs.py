"""Byte-level BPE outside of graphs: token ids for RoBERTa and GPT-2."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Sequence

import tensorflow as tf
from tokenizers import Tokenizer

from tfrecal.text.tokenizers.byte_pair_files import read_byte_pairs
from tfrecal.text.tokenizers.client_tokenizer import FILE, TextIds


class BytePairs:
    """Makes ids of texts as Hugging Face's fast tokenizers do.

    TensorFlow Text has no such op, so it runs outside of graphs: a
    `tf.function` and a served model must be given ids.

    There is one intended difference: `"</s>"` written in a text is text,
    never a special token.

    Args:
        tokenizer: a `Tokenizer` of the `tokenizers` library; it is altered.
        before, after: special tokens around a text.

    Attributes:
        strips: whether white space around a text is cut.

    Raises:
        ValueError: the tokenizer lacks a special token.
    """

    in_graph = False

    def __init__(
        self,
        tokenizer: Tokenizer,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ):
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
        self.strips = False
        # The tokens, each in the place of its id.
        self.vocabulary = sorted(
            tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
        # A client needs the tokenizer as it is without truncation.
        self.whole = tokenizer.to_str()

    @property
    def facts(self) -> list:
        """All that the ids of a text depend on."""
        return [hashlib.sha256(self.whole.encode()).hexdigest(),
                *["strips"] * self.strips]

    @property
    def client_facts(self) -> dict:
        """What a client needs besides `whole`, for the manifest."""
        return {"tokenizer_file": FILE, "tokenizer_before": self._ids.before,
                "tokenizer_after": self._ids.after,
                "tokenizer_strips": self.strips}

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        vocab_size: int,
        kind: str,
        before: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> BytePairs:
        """Reads the tokenizer of a folder; see `read_byte_pairs`."""
        return cls(read_byte_pairs(folder, vocab_size, kind), before, after)

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
        self._ids.max_length, self._ids.strips = max_length, self.strips
        rows = self._ids(strings)
        return tf.RaggedTensor.from_row_lengths(
            tf.constant([n for row in rows for n in row], tf.int32),
            tf.constant([len(row) for row in rows], tf.int32),
        )
