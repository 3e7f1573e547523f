"""Reads what a sentence-transformers folder does around its transformer.

Its `modules.json` lists what a text goes through. What is not followed here
is refused: left out in silence it would change each vector. See
https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""
from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tfrecal.text.tokenizers.json_files import (
    option,
    read_json,
    read_options,
    refuse,
)

LIST = "modules.json"
PROMPTS = "config_sentence_transformers.json"
# The file of a Transformer module has one of these names.
SENTENCE_CONFIGS = tuple(f"sentence_{kind}_config.json" for kind in (
    "bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta",
    "xlnet"))
# Names of sentence-transformers -> names of `TextEncoder`.
POOLING_MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_OTHER_MODES = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
                "pooling_mode_weightedmean_tokens")
_ACTIVATIONS = {"Tanh": "tanh", "Identity": None, "ReLU": "relu",
                "Sigmoid": "sigmoid"}
# Arguments of the transformer and its tokenizer that change no vector.
_HARMLESS = {"add_pooling_layer", "attn_implementation", "trust_remote_code",
             "use_fast", "safe_serialization", "use_safetensors"}


class Dense(NamedTuple):
    """A Dense module after pooling.

    Attributes:
        folder: where its weights are.
        inputs, outputs: number of elements of a vector before and after it.
        bias: whether it adds a bias.
        activation: name in `tf.nn`, or None.
    """

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str | None


class SentenceFolder(NamedTuple):
    """What a text goes through in a folder of a checkpoint.

    Attributes:
        transformer: folder of config.json, weights and tokenizer.
        pooling: a `pooling` of `TextEncoder`; None where the folder does not
            say.
        after: what follows pooling, in order: a `Dense`, or `"normalise"`
            for vectors of norm 1.
        prompt: is put before each text.
        strips: whether white space around prompt and text is cut.
        lower_case: whether texts are turned into lower case before the
            tokenizer sees them.
        max_length: most tokens of a text, or None.
    """

    transformer: Path
    pooling: str | None = None
    after: tuple[Dense | str, ...] = ()
    prompt: str = ""
    strips: bool = False
    lower_case: bool = False
    max_length: int | None = None

    def prepare(self, text: str) -> str:
        """Returns a text as the tokenizer gets it."""
        text = self.prompt + text
        text = text.strip() if self.strips else text
        return text.lower() if self.lower_case else text


def find_folder(checkpoint: str) -> Path:
    """Finds a checkpoint's folder; downloads it if it has a known name.

    Args:
        checkpoint: a local folder, a name, or a Hugging Face name.

    Raises:
        ValueError: the path does not exist.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or checkpoint.startswith((".", "~")):
        raise ValueError(
            "`checkpoint` must be a folder that exists, a named encoder or a "
            f"Hugging Face name. Received: checkpoint={checkpoint!r}, where "
            "there is no folder."
        )
    from tfrecal.data.assets import encoder_folder

    return Path(encoder_folder(checkpoint))


def read_sentence_folder(
    folder: Path, pooling: str | None = None
) -> SentenceFolder:
    """Reads what texts of a checkpoint go through.

    A folder without `modules.json` is a transformer with what else is there
    of a sentence-transformers folder.

    Args:
        folder: the folder of a checkpoint.
        pooling: is taken in place of that of the folder.

    Raises:
        ValueError: a file is broken, or a module is none of Transformer,
            Pooling, Dense and Normalize in this order, or has an option that
            is not followed here.
    """
    folder = Path(folder)
    modules = _modules(folder)
    transformer = modules.pop(0)[1]
    found = SentenceFolder(
        transformer, pooling, strips=(folder / LIST).is_file(),
        **_of_transformer(transformer), prompt=_prompt(folder))
    after = []
    for kind, place in modules:
        if kind == "Pooling":
            stored = _pooling(place, found.prompt, pooling)
            found = found._replace(pooling=pooling or stored)
        else:
            after.append(
                "normalise" if kind == "Normalize" else _dense(place))
    return found._replace(after=tuple(after))


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Returns kind and folder of each module."""
    path = folder / LIST
    if not path.is_file():
        pooling = folder / "1_Pooling"
        there = (pooling / "config.json").is_file()
        return [("Transformer", folder)] + [("Pooling", pooling)] * there
    listed = read_json(path)
    if not isinstance(listed, list) or not all(
            isinstance(one, dict) for one in listed):
        raise refuse(path, "must be a list of modules", f"{listed!s:.60}")
    found = [(_kind(one, path), _place(one, folder, path)) for one in listed]
    numbers = [one.get("idx", n) for n, one in enumerate(listed)]
    kinds = " ".join(kind for kind, _ in found)
    if numbers != list(range(len(listed))) or not re.fullmatch(
            "Transformer Pooling( Dense| Normalize)*", kinds):
        raise refuse(
            path, "must list a Transformer, a Pooling, and then Dense and "
            "Normalize modules, in the order of `idx`",
            f"{kinds or 'none'} with idx={numbers}")
    return found


def _kind(module: dict, path: Path) -> str:
    name = module.get("type")
    kind = name.rpartition(".")[2] if isinstance(name, str) else None
    if kind in ("Transformer", "Pooling", "Dense", "Normalize") and (
            name.startswith("sentence_transformers.")):
        return kind
    raise refuse(
        path, "may have modules of sentence-transformers of the kinds "
        "Transformer, Pooling, Dense and Normalize", f"type={name!r}")


def _place(module: dict, folder: Path, path: Path) -> Path:
    place = module.get("path")
    if isinstance(place, str) and "\0" not in place:
        parts = PurePosixPath(place.replace("\\", "/"))
        if not parts.is_absolute() and ".." not in parts.parts and (
                ":" not in place):
            return folder / parts
    raise refuse(path, "must give each module a `path` inside the folder",
                 f"path={place!r}")


def _of_transformer(folder: Path) -> dict:
    """Returns `lower_case` and `max_length` of a Transformer module."""
    path = next((folder / name for name in SENTENCE_CONFIGS
                 if (folder / name).is_file()), folder / SENTENCE_CONFIGS[0])
    options = read_options(path)
    for name in ("model_args", "tokenizer_args", "config_args"):
        given = option(options, name, dict, {}, path)
        odd = sorted(set(given) - _HARMLESS)
        if odd:
            raise refuse(path, f"may give `{name}` that change no vector",
                         f"{name} with {', '.join(odd)}")
    most = option(options, "max_seq_length", int, None, path)
    if most is not None and most < 2:
        raise refuse(path, "must have a `max_seq_length` of at least 2",
                     f"max_seq_length={most}")
    return {"lower_case": option(
        options, "do_lower_case", bool, False, path), "max_length": most}


def _prompt(folder: Path) -> str:
    """Returns the prompt that texts get where none is asked for."""
    path = folder / PROMPTS
    options = read_options(path)
    prompts = option(options, "prompts", dict, {}, path)
    name = option(options, "default_prompt_name", str, None, path)
    if name is None:
        return ""
    prompt = prompts.get(name)
    if not isinstance(prompt, str):
        raise refuse(path, "must hold the text of its default prompt",
                     f"default_prompt_name={name!r} and prompts "
                     f"{sorted(prompts)}")
    return prompt


def _pooling(folder: Path, prompt: str, given: str | None) -> str | None:
    """Returns the pooling of a Pooling module, or `given` over it."""
    path = folder / "config.json"
    if not path.is_file():
        raise refuse(path, f"must be there, because `{LIST}` names it",
                     "no such file")
    options = read_options(path)
    if prompt and not option(options, "include_prompt", bool, True, path):
        raise refuse(path, "must not leave the prompt out of the pooling",
                     f"include_prompt=false and the prompt {prompt!r}")
    if given:
        return given
    # The module's own defaults: the mean, unless it is switched off.
    modes = {name: option(options, name, bool, default, path)
             for name, default in [
                 ("pooling_mode_mean_tokens", "pooling_mode" not in options),
                 *((name, False) for name in (
                     *list(POOLING_MODES)[1:], *_OTHER_MODES))]}
    used = [name for name, on in modes.items() if on]
    if "pooling_mode" in options:
        used.append(str(options["pooling_mode"]))
    known = {**POOLING_MODES, "mean": "mean", "cls": "cls",
             "lasttoken": "last"}
    if len(used) == 1 and used[0] in known:
        return known[used[0]]
    raise ValueError(
        f"The pooling must be one of {', '.join(POOLING_MODES)}. Received: "
        f"{', '.join(used) or 'none'} in {path}. Give `pooling` to have "
        "another, or choose another checkpoint."
    )


def _dense(folder: Path) -> Dense:
    path = folder / "config.json"
    options = read_options(path)
    sizes = [option(options, name, int, 0, path)
             for name in ("in_features", "out_features")]
    name = option(options, "activation_function", str,
                  "torch.nn.modules.activation.Tanh", path)
    kind = name.rpartition(".")[2]
    if min(sizes) < 1 or kind not in _ACTIVATIONS or (
            not name.startswith("torch.nn.")):
        raise refuse(
            path, "must give the sizes of a Dense module and one of the "
            f"activations {', '.join(_ACTIVATIONS)}",
            f"in_features={sizes[0]}, out_features={sizes[1]}, "
            f"activation_function={name!r}")
    for more in ("module_input_name", "module_output_name"):
        place = option(options, more, str, "sentence_embedding", path)
        if place != "sentence_embedding":
            raise refuse(path, f"must have a `{more}` of sentence_embedding",
                         f"{more}={place!r}")
    return Dense(folder, *sizes, option(options, "bias", bool, True, path),
                 _ACTIVATIONS[kind])
