"""Counts the tokens of texts in seconds, without TensorFlow."""
from __future__ import annotations

from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from tokenizers import BertWordPieceTokenizer, Tokenizer

from tfrecal.text.options import check_texts
from tfrecal.text.sentence_folder import (
    SentenceFolder,
    find_folder,
    read_sentence_folder,
)
from tfrecal.text.tokenizers import client_tokenizer
from tfrecal.text.tokenizers.byte_pair_files import read_byte_pairs
from tfrecal.text.tokenizers.json_files import option, read_options, refuse
from tfrecal.text.tokenizers.word_piece_files import (
    BERT_KINDS,
    BERT_MARKS,
    UNKNOWN,
    read_word_pieces,
)


def token_counts(texts: Sequence[str], encoder: str = "minilm") -> np.ndarray:
    """Counts the tokens of texts, special ones included, none cut off.

    A text of more tokens than `max_length` is cut by `TextEncoder`. So is a
    text of more than the checkpoint's own `max_seq_length`, which
    `longest_text` returns.

    Args:
        texts: strings; an empty one has its special tokens.
        encoder: a checkpoint as `TextEncoder` takes it.

    Returns:
        int64 `[n]`.

    Raises:
        TypeError: `texts` is one string, or an element is no string.
        ValueError: the folder is not there, its files are broken, or its
            tokenizer is of a kind that only the encoder itself reads.
    """
    texts = check_texts(texts)
    sentences = _read(encoder)
    count = _counter(sentences)
    return np.fromiter(count([sentences.prepare(text) for text in texts]),
                       np.int64, len(texts))


def longest_text(encoder: str, max_length: int) -> int:
    """Returns the most tokens of a text that `TextEncoder` reads.

    It is `max_length`, or the checkpoint's own `max_seq_length` where that
    is lower.

    Args:
        encoder: a checkpoint as `TextEncoder` takes it.
        max_length: as for `TextEncoder`.
    """
    own = _read(encoder).max_length
    return max_length if own is None else min(own, max_length)


def _read(encoder: str) -> SentenceFolder:
    # Tokens do not depend on the pooling, which an argument may replace.
    return read_sentence_folder(find_folder(str(encoder)), pooling="mean")


def _counter(sentences: SentenceFolder) -> Callable:
    """Returns a function from texts to their numbers of tokens."""
    folder = sentences.transformer
    path = folder / "config.json"
    config = read_options(path)
    kind = option(config, "model_type", str, "", path)
    size = option(config, "vocab_size", int, 0, path)
    if kind in ("bert", "electra", "distilbert"):
        return _of_word_pieces(folder, size, BERT_MARKS, BERT_KINDS)
    if kind == "mpnet":
        return _of_word_pieces(folder, size, ("<s>", "</s>"), ("MPNet",))
    if kind == "roberta":
        return _counts_of(read_byte_pairs(folder, size, "Roberta"), 2)
    if kind == "gpt2":
        return _counts_of(read_byte_pairs(folder, size, "GPT2"), 0)
    if kind in ("albert", "xlnet"):
        return _counts_of(_read_whole(folder, kind), 2)
    raise refuse(path, "must be of a kind of checkpoint whose tokens can be "
                 "counted", f"model_type={kind!r}")


def _of_word_pieces(folder, size, marks, kinds):
    pieces, lower_case = read_word_pieces(folder, size, marks, kinds)
    return _counts_of(BertWordPieceTokenizer(
        {piece: number for number, piece in enumerate(pieces)},
        unk_token=UNKNOWN, cls_token=marks[0], sep_token=marks[1],
        lowercase=lower_case)._tokenizer, len(marks))


def _read_whole(folder: Path, kind: str) -> Tokenizer:
    path = folder / client_tokenizer.FILE
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower one
        raise ValueError(
            f"Tokens of the kind {kind} are counted with `{path.name}`. "
            f"Received: {path}: {error}. Put Hugging Face's file of the "
            "checkpoint there, or leave the count out.") from error


def _counts_of(tokenizer: Tokenizer, marks: int) -> Callable:
    """Returns a function that counts, with `marks` for special tokens."""
    client_tokenizer.take_whole_texts(tokenizer)
    return lambda texts: (
        len(found) + marks for found in tokenizer.encode_batch_fast(
            texts, add_special_tokens=False))
