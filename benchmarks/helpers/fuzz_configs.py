"""Configs for `fuzz.py`: JSON of runs, comparisons and loops, and others."""
from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from helpers import fuzz_mutations as parts
from helpers.fuzz_tables import Files, alike
from helpers.strict_reader import Refused

from tfrecal import acquisition, checks
from tfrecal.compare.config import ComparisonConfig, strategy
from tfrecal.feedback.store import address
from tfrecal.retrain.config import RetrainConfig
from tfrecal.runs.cluster import Cluster
from tfrecal.runs.config import RunConfig
from tfrecal.runs.tuning.space import SEARCHED, checked

_VALUES = [None, True, False, 0, 1, -1, 2, 3, 2.0, 2.5, 0.1, 1e308, 1e-300,
           10 ** 30, 2 ** 63, "", "x", "1", "nan", "a\nb", "\x00", "\ud800",
           [], [1], [1, 5], [5, 1], [1.5, 2], ["a"], {}, {"a": 1}, "frozen",
           "rating,retrieval", "none", "vopt", "last", "drop", "s", "random",
           "user=userId", "age <= 21", "users", "minilm", "replay", "a" * 5000,
           "postgresql://u:hidden@h/d", "postgresql://h/d?password=hidden",
           "__import__('os').system('touch pwned')", "NA,null", "exact"]
_PIECES = [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"null", b"true",
           b"[", b"{", b"}", b'"', b",", b":", b"\\ud800", b'"seed": 1,',
           b"9" * 400, b"[" * 5000, b"\xff", b"\x00", b"\xef\xbb\xbf", b"2.0",
           b"-", b"0", b"01", b"1_0", b"'", b"//", b"\\u0000"]
_SECRET = "hidden"
# Where it is a password, and not another part of a text.
_PASSWORD = re.compile(r"(?i)password *= *'?hidden|://[^/@ ]*:hidden@")
_IN_A_URL = re.compile("://[^/@ ]*:hidden@")


class Configs:
    """Configs in JSON files: of a run, a comparison and a loop."""

    name, share = "configs", 4
    partial = True  # the strict reader does not know all that must hold
    _classes = {"run": RunConfig, "comparison": ComparisonConfig,
                "loop": RetrainConfig}

    def make(self, rng) -> Files:
        """Returns a config with some options changed, or its bytes."""
        kind = rng.choice(list(self._classes))
        names = [field.name for field in dataclasses.fields(
            self._classes[kind])]
        values = {"run": "r", "to": "t"} if kind == "loop" else {}
        for _ in range(rng.randint(0, 4)):
            name = rng.choice([*names, *names, "zz", "batchsize", "", "\n"])
            values[name] = rng.choice(_VALUES)
        if rng.random() < 0.2:
            values = {**dataclasses.asdict(self._classes[kind](**(
                {"run": "r", "to": "t"} if kind == "loop" else {}))),
                **values}
        data = json.dumps(values, ensure_ascii=rng.random() < 0.8).encode(
            "utf-8", "surrogatepass")
        if rng.random() < 0.5:
            data = parts.mutated(rng, data, _PIECES)
        return Files({"config.json": data}, {"kind": kind})

    def take(self, files: Files, folder: Path) -> dict:
        """Returns all options, as the package reads them."""
        files.write(folder)
        kind = files.options["kind"]
        try:
            found = (RunConfig.from_file(folder / "config.json")
                     if kind == "run" else
                     self._classes[kind].from_folder(folder))
        except ValueError as error:
            if _IN_A_URL.search(str(error)):
                raise RuntimeError(f"a password is shown: {error}") from error
            raise
        values = dataclasses.asdict(found)
        again = self._classes[kind](**json.loads(json.dumps(values)))
        if again != found:
            raise RuntimeError(f"{again} is not {found}")
        return values

    def expect(self, files: Files) -> dict:
        """Returns the options of the file in their types, with defaults."""
        given = strict_json(files.content["config.json"])
        kind = self._classes[files.options["kind"]]
        found = {}
        if kind is ComparisonConfig:
            from tfrecal.compare.config import BESIDE

            given = {name: value for name, value in given.items()
                     if name not in BESIDE}
        for field in dataclasses.fields(kind):
            found[field.name] = field.default
            if field.name in given:
                found[field.name] = _typed(
                    given.pop(field.name), str(field.type))
        if given:
            raise Refused("an unknown option")
        if _PASSWORD.search(str(found.get("feedback"))):
            raise Refused("a password")
        return found

    def differs(self, got: dict, wanted: dict) -> str:
        """Says what differs; "" if nothing does."""
        wrong = [f"{name}={got[name]!r} for {value!r}"
                 for name, value in wanted.items()
                 if not alike(got[name], value)
                 or isinstance(value, bool) != isinstance(got[name], bool)]
        return ", ".join(wrong)


def shows_password(text: str, given: str) -> bool:
    """Whether a text shows the password that was given."""
    return _SECRET in text and bool(_PASSWORD.search(given))


def strict_json(data: bytes) -> dict:
    """Returns the object of a file of JSON.

    Raises:
        Refused: it is none, holds a name twice or a number that is not
            finite.
    """
    try:
        found = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_once,
            parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refused("no JSON") from None
    if not isinstance(found, dict):
        raise Refused("no object")
    return found


def _once(pairs) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError
    return float(text)


def _typed(value, kind: str):
    if value is None and "None" in kind:
        return None
    if kind.startswith("tuple"):
        if not isinstance(value, list) or len(value) != 2:
            raise Refused("no pair")
        return tuple(_typed(one, "float") for one in value)
    kind = kind.removesuffix(" | None")
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind == "int" and number and value % 1 == 0:
        return int(value)
    if kind == "float" and number and abs(value) < 1e309:
        return float(value)
    if kind == "str" and isinstance(value, str) or (
            kind == "bool" and isinstance(value, bool)):
        return value
    raise Refused("another type")


@dataclass
class Value:
    """A value of any kind; texts are made smaller."""

    kind: str
    value: object

    def smaller(self):
        """Yields shorter texts, or objects with fewer names."""
        if isinstance(self.value, str):
            yield from (Value(self.kind, less)
                        for less in parts.shorter(self.value))
        if isinstance(self.value, dict):
            for name in self.value:
                yield Value(self.kind, {
                    one: some for one, some in self.value.items()
                    if one != name})


class Values:
    """TF_CONFIG, spaces, labels of strategies, addresses of databases."""

    name, share = "values", 4
    partial = True

    def make(self, rng) -> Value:
        """Returns a value of one of these kinds."""
        kind = rng.choice(["cluster", "space", "strategy", "address", "json"])
        return Value(kind, getattr(self, f"_{kind}")(rng))

    def _cluster(self, rng) -> str:
        jobs = {rng.choice(["worker", "worker", "chief", "ps"]): rng.choice([
            ["a:1", "b:2"], ["a:1"], ["a:1", "a:1"], ["a:0", "b:x"], [], "a:1",
            [1, 2], None, {"a": 1}, ["[::1]:80", "b:65536"],
            ["a:1", "b:\u0662"],
            [" a:1", "b:2"], ["a:1", "b: 2"], ["x" * 300 + ":9", "b:1"]])
            for _ in range(rng.randint(1, 2))}
        text = json.dumps(rng.choice([*[{
            "cluster": jobs, "task": {
                "type": rng.choice(["worker", "chief", "ps", None]),
                "index": rng.choice([0, 0, 1, 2, -1, "0", 0.0, True])}}] * 8,
            {"cluster": jobs}, {"task": {}}, [], 1, None, {"cluster": 3},
            {"cluster": jobs, "task": [1]}, {"cluster": [["worker", ["a:1"]]],
                                             "task": {"type": "worker"}}]))
        return parts.mutated(rng, text, [
            piece.decode("latin-1") for piece in _PIECES if piece != b"\0"])

    def _space(self, rng) -> dict:
        ends = [*_VALUES, 1, 2, 3, 0.1, 0.5, 1.0]
        return {rng.choice([*SEARCHED, "seed", "x"]): rng.choice([
            rng.choice(ends), [rng.choice(ends) for _ in range(2)],
            {"low": rng.choice(ends), "high": rng.choice(ends),
             **({"log": rng.choice(ends)} if rng.random() < 0.5 else {})}])
            for _ in range(rng.randint(0, 3))}

    def _strategy(self, rng) -> str:
        keys = ["batch", "temperature", "max_per_user", "quotas", "seed",
                "strategies", "self", "epsilon", "__class__", "", "kappa"]
        values = ["1", "-1", "0", "true", "null", "NaN", "Infinity", "1e999",
                  "x", "power", "top", "2.5", "1" * 5000, "vopt", "\u00e9",
                  "1_0", "0x1", "softmax", "[1]"]
        text = rng.choice([*acquisition.names(), "mixture", "nope", ""])
        text += rng.choice([":", ":", "", ";"]) + ";".join(
            rng.choice(keys) + rng.choice(["=", "=", "==", ""])
            + rng.choice(values) for _ in range(rng.randint(0, 3)))
        return parts.mutated(rng, text, parts.CHARACTERS)

    def _address(self, rng) -> str:
        pieces = ["postgresql", "://", ":", "@", "/", "?", "password=",
                  "hidden", "me", "host", "&", "user=", "sslpassword=", " ",
                  "=", "sqlite:///", "%3A", "%40", "[", "]", "::1", "5432",
                  ",", "#", "+psycopg", "\u00e9", "PASSWORD=", "'", "\\",
                  "passfile=", "dbname=", "\t", "\n", "sqlite://", "mysql"]
        if rng.random() < 0.4:
            return rng.choice([
                "postgresql://me:hidden@host/db", "postgresql://me@host/db",
                "postgresql:///db?user=me&password=hidden", "feedback.db",
                "host=h password=hidden", "host=h password = 'hidden'",
                "postgresql://me:hid/den@host:5432/db",
                "postgresql+psycopg://host/db?password=hidden",
                "sqlite:///some/file.db"]) + rng.choice(["", *pieces])
        return "".join(rng.choice(pieces) for _ in range(rng.randint(1, 9)))

    def _json(self, rng) -> str:
        text = json.dumps({rng.choice("abc"): rng.choice(_VALUES)
                           for _ in range(rng.randint(0, 3))})
        return parts.mutated(rng, text, [
            piece.decode("latin-1") for piece in _PIECES])

    def take(self, case: Value, folder: Path):
        """Returns what the package makes of the value."""
        try:
            return getattr(self, f"_take_{case.kind}")(case.value)
        except ValueError as error:
            if case.kind == "address" and shows_password(
                    str(error), case.value):
                raise RuntimeError(f"a password is shown: {error}") from error
            raise

    def _take_cluster(self, text: str):
        os.environ["TF_CONFIG"] = text
        try:
            found = Cluster.from_environment()
        finally:
            del os.environ["TF_CONFIG"]
        return found and (list(found.addresses), found.index)

    def _take_space(self, space: dict):
        return checked(space, RunConfig())

    def _take_strategy(self, label: str):
        return strategy(label) and None

    def _take_address(self, url: str):
        address.check_no_password(feedback=url)
        shown = address.hide_password(address.parse_address(url))
        if shows_password(shown, url):
            raise RuntimeError(f"a password is shown: {shown}")

    def _take_json(self, text: str):
        try:
            return checks.parse_json(text)
        except ValueError as error:  # what comes after "Received: ..."
            raise ValueError(f"Received: {error}") from error

    def expect(self, case: Value):
        """Returns the same by the rules, as far as they go."""
        if case.kind == "json":
            return strict_json(case.value.encode("utf-8", "surrogatepass"))
        if case.kind == "cluster":
            return _cluster(case.value)
        if case.kind == "space":
            return _space(case.value)
        return None

    def differs(self, got, wanted) -> str:
        """Says what differs; "" if nothing does."""
        return "" if alike(got, wanted) else f"{got} for {wanted}"


def _cluster(text: str):
    if not text.strip():
        return None
    config = strict_json(text.encode("utf-8", "surrogatepass"))
    jobs, task = config.get("cluster") or {}, config.get("task") or {}
    if not isinstance(task, dict):
        raise Refused("the task")
    if not jobs:
        return None
    if not isinstance(jobs, dict) or not set(jobs) <= {
            "chief", "worker"} or not all(
                isinstance(some, list) for some in jobs.values()):
        raise Refused("the cluster")
    chief = jobs.get("chief", [])
    found = [*chief, *jobs.get("worker", [])]
    index, kind = task.get("index"), task.get("type")
    if type(index) is not int or kind not in jobs or not (
            0 <= index < len(jobs[kind])):
        raise Refused("the index")
    if not all(isinstance(one, str) and re.fullmatch(
            r".+:[0-9]+", one, re.DOTALL) and 0 < int(
                one.split(":")[-1]) < 65536 for one in found):
        raise Refused("an address")
    if len(set(found)) < len(found) or len(chief) > 1:
        raise Refused("an address twice")
    place = index if kind == "chief" else len(chief) + index
    return (found, place) if found[1:] else None


def _space(space: dict):
    if not space:
        raise Refused("an empty space")
    kinds = {field.name: str(field.type)
             for field in dataclasses.fields(RunConfig)}
    found = {}
    for name, given in space.items():
        if name not in SEARCHED:
            raise Refused("a setting")
        kind = kinds[name].removesuffix(" | None")
        if isinstance(given, list) and given:
            found[name] = [_typed(value, kind) for value in given]
        elif isinstance(given, dict) and {"low", "high"} <= set(given):
            found[name] = {"log": False, **given, **{
                end: _typed(given[end], kind) for end in ("low", "high")}}
        else:
            raise Refused("the values")
    return found
