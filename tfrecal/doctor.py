"""Is the installed stack one that works? Names the conflict and the cure."""
from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

PYTHONS = ((3, 10), (3, 13))
# What was run together; other minor versions may work and are only noted.
TENSORFLOW = "2.20"
# scann's metadata does not say so in time: the wrong TF ends the process.
SCANN = {"1.4.2": "2.20"}
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-rocm")
_FOLLOWERS = {"tf-keras": "2.20.1", "tensorflow-text": "2.20.1",
              "tensorflow-serving-api": "2.20.0"}
# Extra -> a module that only it brings.
EXTRAS = {"scann": "scann", "notebook": "nbclient", "test": "pytest",
          "bench": "cornac"}
_SHOWN = (*_TENSORFLOWS[:1], "tf-keras", "tensorflow-recommenders",
          "tensorflow-text", "tensorflow-serving-api", "transformers",
          "scann", "numpy", "pandas", "protobuf", "grpcio")
_LEGACY = "TF_USE_LEGACY_KERAS"


@dataclass(frozen=True)
class Problem:
    """Something about the installed stack.

    Attributes:
        name: what it is about, in a word or two.
        found: what is there.
        why: why that fails.
        cure: what to do.
        fatal: False for a note, with which tfrecal still works.
    """

    name: str
    found: str
    why: str
    cure: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.why} Received: {self.found}. {self.cure}"


def check() -> list[Problem]:
    """All problems and notes, the worst first; imports no TensorFlow."""
    problems = [*_python(), *_keras(), *_tensorflow(), *_followers(),
                *_recommenders(), *_transformers(), *_scann(), *_extras()]
    return sorted(problems, key=lambda problem: not problem.fatal)


def require() -> None:
    """Raises ImportError when the installed stack cannot work."""
    fatal = [problem for problem in check() if problem.fatal]
    if fatal:
        raise ImportError(
            "tfrecal cannot work with this stack.\n"
            + "\n".join(f"- {problem}" for problem in fatal))


def report() -> tuple[str, int]:
    """What `tfrecal doctor` prints, and its exit code.

    Returns:
        A text of the machine, the stack and its problems; 0 where tfrecal
        can work, else 1.
    """
    problems = check()
    named = {problem.name.lower() for problem in problems}
    problems += [p for p in _requirements() if p.name.lower() not in named]
    problems.sort(key=lambda problem: not problem.fatal)
    lines = [f"{name:<28}{value}" for name, value in machine().items()]
    lines += ["", *(f"{name:<28}{installed(name) or '-'}" for name in _SHOWN)]
    for problem in problems:
        lines += ["", f"{'PROBLEM' if problem.fatal else 'note'}: "
                  f"{problem.name}: {problem.found}", f"  {problem.why}",
                  f"  {problem.cure}"]
    fatal = sum(problem.fatal for problem in problems)
    lines += ["", f"{fatal} problem{'' if fatal == 1 else 's'}: tfrecal "
              "cannot work until mended." if fatal else
              "No problems: this stack works."]
    return "\n".join(lines), int(fatal > 0)


def machine() -> dict[str, str]:
    """What tells of the speed to expect, as name -> text."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return {"Python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": str(cores), "vector instructions": _vectors(),
            "free memory": _free_memory()}


def _proc(path: str, key: str) -> str | None:
    """The value of the first `key : value` line of a Linux /proc file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return None


def _vectors() -> str:
    flags = (_proc("/proc/cpuinfo", "flags") or "").split()
    known = [f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
             if f in flags]
    return ", ".join(known) or "not known"


def _free_memory() -> str:
    kibibytes = _proc("/proc/meminfo", "MemAvailable")
    if kibibytes is None:
        return "not known"
    gibibytes = int(kibibytes.split()[0]) / 2**20
    few = "" if gibibytes >= 4 else ", little: close other programs"
    return f"{gibibytes:.1f} GiB{few}"


def _requirements() -> list[Problem]:
    """What tfrecal's packages say they need, against what is there.

    As `pip check`, for the stack only. An old numpy or protobuf ends the
    import of TensorFlow; others are notes.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    problems = []
    for owner in filter(installed, ("tfrecal", *_SHOWN)):
        for text in metadata.requires(owner) or []:
            try:
                needed = Requirement(text)
            except InvalidRequirement:
                continue
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            version = installed(needed.name)
            if version and not needed.specifier.contains(
                    version, prereleases=True):
                problems.append(Problem(
                    needed.name, f"{needed.name} {version}",
                    f"{owner} needs {needed.name}{needed.specifier}.",
                    f"Run: pip install \"{needed.name}{needed.specifier}\"",
                    fatal=needed.name in ("numpy", "protobuf")))
    return problems


def installed(name: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def tensorflow_version() -> str | None:
    """TensorFlow's version under any of its names, or None."""
    return next(filter(None, map(installed, _TENSORFLOWS)), None)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _missing(name: str, pin: str) -> Problem:
    return Problem(
        name, f"no {name}", f"`{name}` must be installed.",
        f"Run: pip install \"{name}=={pin}\"")


def _python() -> list[Problem]:
    low, high = PYTHONS
    if low <= sys.version_info[:2] < high:
        return []
    return [Problem(
        "Python", "Python {}.{}".format(*sys.version_info[:2]),
        "Python must be 3.10, 3.11 or 3.12: tensorflow-text has no wheels "
        "for others.", "Make a virtual environment with one of these.")]


def _keras() -> list[Problem]:
    why = ("Keras 2 must be active: TensorFlow-Recommenders and "
           "TF-Transformers refuse Keras 3.")
    value = os.environ.get(_LEGACY)
    if value not in (None, "1", "true", "True"):
        return [Problem("Keras", f"{_LEGACY}={value}", why,
                        f"Set {_LEGACY}=1, or unset it, and start Python "
                        "anew.")]
    # TensorFlow reads the variable once, when it is imported, and puts the
    # Keras that it chose on its path.
    tensorflow = sys.modules.get("tensorflow")
    path = getattr(tensorflow, "__path__", None)
    # By whole folder names: Keras 3 has a `keras/_tf_keras`.
    if path is None or any("tf_keras" in Path(p).parts for p in path):
        return []
    return [Problem(
        "Keras", f"TensorFlow was imported without {_LEGACY}=1", why,
        f"Restart Python and import tfrecal before TensorFlow, or set "
        f"{_LEGACY}=1 in the environment.")]


def _tensorflow() -> list[Problem]:
    version = tensorflow_version()
    if version is None:
        return [_missing("tensorflow", f"{TENSORFLOW}.0")]
    if _minor(version) == TENSORFLOW:
        return []
    return [Problem(
        "TensorFlow", f"tensorflow {version}",
        f"tfrecal was run with TensorFlow {TENSORFLOW} only.",
        f"Should something fail: pip install \"tensorflow=={TENSORFLOW}.0\"",
        fatal=False)]


def _followers() -> list[Problem]:
    """Packages whose minor version must be TensorFlow's."""
    tensorflow = tensorflow_version()
    problems = []
    for name, pin in _FOLLOWERS.items():
        version = installed(name)
        if version is None:
            problems.append(_missing(name, pin))
        elif tensorflow and _minor(version) != _minor(tensorflow):
            problems.append(Problem(
                name, f"{name} {version} beside tensorflow {tensorflow}",
                f"`{name}` must be of TensorFlow's minor version.",
                f"Run: pip install \"{name}~={_minor(tensorflow)}.0\"",
                fatal=name != "tensorflow-serving-api"))
    return problems


def _recommenders() -> list[Problem]:
    if installed("tensorflow-recommenders") is None:
        return [_missing("tensorflow-recommenders", "0.7.7")]
    return []


def _transformers() -> list[Problem]:
    version = installed("transformers")
    if version is None:
        return [_missing("transformers", "4.53.3")]
    major, minor = map(int, _minor(version).split("."))
    if major >= 5:
        why = ("`transformers` must be 4.53 or older: version 5 has no "
               "TensorFlow classes.")
    elif major == 4 and minor >= 54:
        why = ("`transformers` must be 4.53 or older: from 4.54 on it "
               "cannot load safetensors into TensorFlow.")
    else:
        return []
    return [Problem("transformers", f"transformers {version}", why,
                    "Run: pip install \"transformers==4.53.3\"")]


def _scann() -> list[Problem]:
    version, tensorflow = installed("scann"), tensorflow_version()
    needed = SCANN.get(version)
    if not tensorflow or needed in (None, _minor(tensorflow)):
        return []
    return [Problem(
        "scann", f"scann {version} beside tensorflow {tensorflow}",
        f"scann {version} must stand beside TensorFlow {needed}, for which "
        "it was built: beside another even importing "
        "tensorflow-recommenders crashes.",
        f"Run: pip install \"tensorflow=={needed}.0\", or pip uninstall "
        "scann")]


def _extras() -> list[Problem]:
    return [
        Problem(f"extra {name}", f"no {module}",
                f"The extra `{name}` is not installed.",
                f"If you need it: pip install \"tfrecal[{name}]\"",
                fatal=False)
        for name, module in EXTRAS.items() if util.find_spec(module) is None]
