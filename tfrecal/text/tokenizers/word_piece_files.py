"""Reads the files of a WordPiece tokenizer, without TensorFlow."""
from __future__ import annotations

import collections
from pathlib import Path

from tfrecal.text.tokenizers.json_files import option, read_options

BERT_MARKS = ("[CLS]", "[SEP]")
BERT_KINDS = ("Bert", "DistilBert", "Electra")
UNKNOWN = "[UNK]"


def read_word_pieces(
    folder: Path,
    vocab_size: int,
    marks: tuple[str, str] = BERT_MARKS,
    kinds: tuple[str, ...] = BERT_KINDS,
) -> tuple[list[str], bool]:
    """Reads `vocab.txt` and `tokenizer_config.json` of a checkpoint.

    Args:
        folder: the checkpoint's folder.
        vocab_size: the number of pieces that there must be.
        marks: the special tokens before and after a text.
        kinds: the name of its tokenizer class must begin with one.

    Returns:
        The word pieces, and whether texts are turned into lower case.

    Raises:
        ValueError: the vocabulary is missing, does not have `vocab_size`
            pieces or lacks a special token, or the options ask for another
            kind of tokenizer.
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
    special = (*marks, UNKNOWN)
    missing = [t for t in special if t not in vocabulary]
    if missing:
        raise ValueError(
            f"The vocabulary must hold {', '.join(special)}. "
            f"Received: {len(vocabulary)} word pieces without "
            f"{', '.join(missing)} in {path}. Take `vocab.txt` from the "
            "folder that the weights came from."
        )
    return vocabulary, _lower_case(Path(folder), kinds)


def _lower_case(folder, kinds) -> bool:
    path = folder / "tokenizer_config.json"
    options = read_options(path)
    lower_case = option(options, "do_lower_case", bool, True, path)
    strip_accents = option(options, "strip_accents", bool, None, path)
    chinese = option(options, "tokenize_chinese_chars", bool, True, path)
    kind = option(
        options, "tokenizer_class", str, f"{kinds[0]}Tokenizer", path)
    if (
        kind.removesuffix("Fast") not in [f"{k}Tokenizer" for k in kinds]
        or not chinese
        or strip_accents not in (None, lower_case)
    ):
        raise ValueError(
            f"The checkpoint's tokenizer must be a {kinds[0]}Tokenizer that "
            "splits Chinese characters and strips accents just when it "
            "lower-cases. "
            f"Received: tokenizer_class={kind!r}, "
            f"do_lower_case={lower_case}, strip_accents={strip_accents}, "
            f"tokenize_chinese_chars={chinese} in {path}. "
            "Choose another checkpoint."
        )
    return lower_case
