"""WordPiece in the graph: token ids for BERT and similar models."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text

from tfrecal.text.tokenizers.word_piece_files import (
    BERT_KINDS,
    BERT_MARKS,
    read_word_pieces,
)

# Characters that Hugging Face's BERT tokenizer deletes: control, format and
# private-use characters except \t \n \r. TF-Text would make each a space,
# which splits words and joined emoji.
_DELETED = (
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\p{Cf}\p{Co}\x{fffd}]"
)
# TF-Text takes a word of more than so many bytes as unknown. Hugging Face
# takes one of more than 100 characters. Four bytes hold any character; long
# words of ASCII are made unknown beforehand.
_MOST_BYTES = 400
_LONG_WORD = r"[0-9A-Za-z]{101,}"


class WordPiece(tf.Module):
    """Makes ids of texts as Hugging Face does.

    There is one intended difference: `"[SEP]"` written in a text is text,
    never a special token.

    Args:
        vocabulary: the word pieces; a piece's id is its place.
        lower_case: whether to turn texts into lower case without accents.
        marks: the special tokens before and after a text.
    """

    in_graph = True

    def __init__(
        self,
        vocabulary: list[str],
        lower_case: bool = True,
        marks: tuple[str, str] = BERT_MARKS,
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        self._first, self._last = map(vocabulary.index, marks)
        pieces = set(vocabulary)
        # A character of the Gothic alphabet that makes any word unknown.
        self._unknown = next(
            c
            for c in map(chr, range(0x10330, 0x1034B))
            if c not in pieces and "##" + c not in pieces
        )
        # `_normalise` lower-cases, because TF-Text's own lower-casing also
        # folds (a superscript 2 becomes 2), which Hugging Face does not.
        self._tokenizer = tf_text.FastBertTokenizer(
            vocabulary,
            max_bytes_per_word=_MOST_BYTES,
            token_out_type=tf.int32,
            lower_case_nfd_strip_accents=False,
        )

    @property
    def facts(self) -> list:
        """All that the ids of a text depend on."""
        return [self.lower_case, self.vocabulary]

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        vocab_size: int,
        marks: tuple[str, str] = BERT_MARKS,
        kinds: tuple[str, ...] = BERT_KINDS,
    ) -> WordPiece:
        """Reads the tokenizer of a folder; see `read_word_pieces`."""
        return cls(*read_word_pieces(folder, vocab_size, marks, kinds), marks)

    def tokenize(self, texts: tf.Tensor, max_length: int) -> tf.RaggedTensor:
        """Turns strings `[n]` into int32 ids `[n, None]`.

        Args:
            texts: the strings.
            max_length: the largest number of ids of a text.
        """
        tokens = self._tokenizer.tokenize(self._normalise(texts))
        tokens = tokens[:, : max_length - 2]
        edge = tf.ones([tokens.nrows(), 1], tf.int32)
        return tf.concat([edge * self._first, tokens, edge * self._last], 1)

    def _normalise(self, texts):
        replace = tf.strings.regex_replace
        texts = replace(texts, _DELETED, "")
        if self.lower_case:
            texts = tf_text.normalize_utf8(texts, "NFD")
            texts = replace(texts, r"\p{Mn}", "")
            # ASCII first, because some locales lower-case "I" in their own
            # way. Capital sigma by itself, because ICU looks at its place.
            texts = replace(tf.strings.lower(texts), "\u03a3", "\u03c3")
            texts = tf.strings.lower(texts, encoding="utf-8")
        return replace(texts, _LONG_WORD, self._unknown)
