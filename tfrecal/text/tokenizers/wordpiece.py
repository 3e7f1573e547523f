"""WordPiece in the graph: token ids for BERT and similar models."""

from __future__ import annotations

import collections
from pathlib import Path

import tensorflow as tf
import tensorflow_text as tf_text

from tfrecal.text.tokenizers.json_files import read_options

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
_UNKNOWN = "[UNK]"


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
        marks: tuple[str, str] = ("[CLS]", "[SEP]"),
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.lower_case = lower_case
        special = (*marks, _UNKNOWN)
        missing = [t for t in special if t not in vocabulary]
        if missing:
            raise ValueError(
                f"The vocabulary must hold {', '.join(special)}. "
                f"Received: {len(vocabulary)} word pieces without "
                f"{', '.join(missing)}. Take `vocab.txt` from the folder "
                "that the weights came from."
            )
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
        marks: tuple[str, str] = ("[CLS]", "[SEP]"),
        kinds: tuple[str, ...] = ("Bert", "DistilBert", "Electra"),
    ) -> WordPiece:
        """Reads `vocab.txt` and `tokenizer_config.json` of a checkpoint.

        Args:
            folder: the checkpoint's folder.
            vocab_size: the number of pieces that there must be.
            marks: the special tokens before and after a text.
            kinds: the name of its tokenizer class must begin with one.

        Raises:
            ValueError: the vocabulary is missing, does not have `vocab_size`
                pieces, or the options ask for another kind of tokenizer.
        """
        path = Path(folder) / "vocab.txt"
        if not path.is_file():
            raise ValueError(
                "The checkpoint must come with its `vocab.txt`. "
                f"Received: no such file in {folder}. Copy it from the folder "
                "that the weights came from."
            )
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"`vocab.txt` must be a UTF-8 text. Received: {path}: "
                f"{error}. Fetch it again."
            ) from error
        vocabulary = [line.rstrip("\r") for line in text.split("\n")]
        if vocabulary[-1] == "":
            vocabulary.pop()
        if len(vocabulary) != vocab_size:
            raise ValueError(
                "`vocab.txt` must have `vocab_size` lines. Received: "
                f"{len(vocabulary)} lines, vocab_size={vocab_size} in "
                f"config.json of {folder}. The two are of different "
                "checkpoints, or the file was cut off: fetch both again."
            )
        piece, often = collections.Counter(vocabulary).most_common(1)[0]
        if often > 1:
            raise ValueError(
                "`vocab.txt` must hold each word piece once. Received: "
                f"{piece!r} on {often} lines of {path}. Fetch it again."
            )
        return cls(vocabulary, _lower_case(Path(folder), kinds), marks)

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


def _lower_case(folder, kinds):
    path = folder / "tokenizer_config.json"
    options = read_options(path)
    lower_case = options.get("do_lower_case", True)
    strip_accents = options.get("strip_accents")
    kind = options.get("tokenizer_class", f"{kinds[0]}Tokenizer")
    if (
        kind.removesuffix("Fast") not in [f"{k}Tokenizer" for k in kinds]
        or options.get("tokenize_chinese_chars", True) is False
        or strip_accents not in (None, lower_case)
    ):
        raise ValueError(
            f"The checkpoint's tokenizer must be a {kinds[0]}Tokenizer that "
            "splits Chinese characters and strips accents just when it "
            "lower-cases. "
            f"Received: tokenizer_class={kind!r}, "
            f"do_lower_case={lower_case}, strip_accents={strip_accents}, "
            "tokenize_chinese_chars="
            f"{options.get('tokenize_chinese_chars', True)} in {path}. "
            "Choose another checkpoint."
        )
    return lower_case
