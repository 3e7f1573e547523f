"""Reads byte-level BPE tokenizers, without TensorFlow."""
from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers

from tfrecal.text.tokenizers.client_tokenizer import FILE
from tfrecal.text.tokenizers.json_files import option, read_options

_PARTS = ("vocab.json", "merges.txt")


def read_byte_pairs(folder: Path, vocab_size: int, kind: str) -> Tokenizer:
    """Reads `tokenizer.json`, or `vocab.json` and `merges.txt`.

    Args:
        folder: the checkpoint's folder.
        vocab_size: the number of tokens that there must be.
        kind: what the name of its tokenizer class must begin with.

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
    if not isinstance(tokenizer.model, models.BPE):
        raise ValueError(
            f"`{FILE}` must be of a BPE tokenizer. Received: one of "
            f"type {type(tokenizer.model).__name__} in {folder}. Take it "
            "from the folder that the weights came from."
        )
    size = tokenizer.get_vocab_size()
    if size != vocab_size:
        raise ValueError(
            "The tokenizer must have `vocab_size` tokens. Received: "
            f"{size} tokens, vocab_size={vocab_size} in config.json of "
            f"{folder}. The two are of different checkpoints, or a file "
            "was cut off: fetch both again."
        )
    return tokenizer


def _options(folder, kind):
    path = folder / "tokenizer_config.json"
    options = read_options(path)
    asked = option(options, "tokenizer_class", str, f"{kind}Tokenizer", path)
    if asked.removesuffix("Fast") != f"{kind}Tokenizer":
        raise ValueError(
            f"The checkpoint's tokenizer must be a {kind}Tokenizer. "
            f"Received: tokenizer_class={asked!r} in {path}. Choose another "
            "checkpoint."
        )
    option(options, "add_prefix_space", bool, False, path)
    return options


def _read(folder, files, options):
    if files == [FILE]:
        return Tokenizer.from_file(str(folder / FILE))
    vocabulary, merges = (str(folder / name) for name in files)
    tokenizer = Tokenizer(models.BPE.from_file(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
        add_prefix_space=options.get("add_prefix_space", False))
    return tokenizer
