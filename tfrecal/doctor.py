"""Does the installed stack work? If not, what is the conflict and the cure?

This module reads the metadata of installed packages and imports none of them.
So it is quick, and works where TensorFlow does not.
"""
from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from dataclasses import dataclass

# The versions that were tested together; setup.cfg pins them.
TENSORFLOW = (2, 20)
PYTHONS = ((3, 10), (3, 12))
TRANSFORMERS = "4.53.3"
EXTRAS = {
    "scann": (("scann",), "the approximate index of candidates"),
    "notebook": (("ipykernel", "nbclient", "nbformat", "matplotlib"),
                 "running the notebooks"),
    "serving": (("grpcio-health-checking", "prometheus-client", "waitress"),
                "`tfrecal serve`"),
    "feedback": (("sqlalchemy", "alembic"),
                 "`tfrecal feedback` and `tfrecal retrain`"),
    "postgres": (("psycopg",), "feedback in PostgreSQL"),
    "report": (("jinja2", "matplotlib"), "`tfrecal report`"),
    "beam": (("apache-beam",), "batch jobs, `tfrecal.beam`"),
    "tuner": (("keras-tuner",), "`tfrecal tune`"),
    "bench": (("cornac", "implicit", "lenskit", "faiss-cpu", "hnswlib",
               "scikit-activeml"), "comparing with other libraries")}
# Names under which TensorFlow itself is installed.
_TENSORFLOW_NAMES = ("tensorflow", "tensorflow-cpu", "tensorflow-macos")
_SHOWN = ("tensorflow", "tf-keras", "tensorflow-recommenders",
          "tensorflow-text", "tensorflow-serving-api", "transformers",
          "scann", "numpy", "pandas", "protobuf", "grpcio")

_VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_LITTLE = 4 * 2**30


@dataclass(frozen=True)
class Problem:
    """A conflict or a gap in the installed stack.

    Args:
        name: the name of the package or setting.
        found: what is there, such as "tf-keras 2.19.0".
        why: what it breaks.
        cure: what to do, a command where there is one.
        note: whether tfrecal works in spite of it.
    """

    name: str
    found: str
    why: str
    cure: str
    note: bool = False

    def __str__(self):
        return f"{self.found}: {self.why}. {self.cure}"


def check() -> list[Problem]:
    """Returns what is wrong or missing, the gravest first."""
    found = [_python(), _keras_3(), *_companions(), _transformers(), _scann()]
    return [problem for problem in found if problem] + _extras()


def require() -> None:
    """Checks that the installed stack can work.

    Raises:
        ImportError: there is a problem; the message names every problem and
            its cure. Notes do not count.
    """
    problems = [problem for problem in check() if not problem.note]
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise ImportError(
            f"tfrecal cannot work with what is installed:{lines}")


def report() -> tuple[str, int]:
    """Returns the findings as text, and the exit code: 1 with a problem."""
    lines = [f"{name} {value}" for name, value in machine().items()]
    lines += [f"{name} {version(name) or '-'}" for name in _SHOWN]
    problems = check()
    named = {problem.name for problem in problems}
    problems += [p for p in _requirements() if p.name not in named]
    problems.sort(key=lambda problem: problem.note)
    for problem in problems:
        kind = "note" if problem.note else "problem"
        lines.append(f"{kind}: {problem}")
    grave = sum(not problem.note for problem in problems)
    lines.append(f"{grave} problem{'s' * (grave != 1)} found." if grave
                 else "The stack is one that works.")
    return "\n".join(lines), int(grave > 0)


def version(name: str) -> str | None:
    """Returns the installed version of a package, or None."""
    names = _TENSORFLOW_NAMES if name == "tensorflow" else (name,)
    for candidate in names:
        try:
            return importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            pass
    return None


def _minor(text: str | None) -> tuple[int, int] | None:
    """Returns (2, 20) for "2.20.1"; None for None or a text of no version."""
    match = re.match(r"(\d+)\.(\d+)", text or "")
    return (int(match[1]), int(match[2])) if match else None


def _python() -> Problem | None:
    if PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return None
    found, low, high = (
        ".".join(map(str, pair[:2]))
        for pair in (sys.version_info, *PYTHONS))
    return Problem(
        "python", f"Python {found}",
        f"tfrecal was run with {low} to {high} only",
        f"Make a virtual environment with Python {high}.", note=True)


def _requirements() -> list[Problem]:
    """Compares what the stack's packages require with what is installed.

    It does what `pip check` does, for the stack only. An old numpy or
    protobuf breaks the import of TensorFlow; all other findings are notes.
    """
    from packaging.requirements import Requirement

    found = []
    for owner in filter(version, ("tfrecal", *_SHOWN)):
        for text in importlib.metadata.requires(owner) or ():
            needed = Requirement(text)
            have = version(needed.name)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            if have is None:
                if owner == "tfrecal":
                    found.append(_missing(
                        needed.name, f"{needed.name}{needed.specifier}"))
                continue
            if not needed.specifier.contains(have, prereleases=True):
                found.append(Problem(
                    needed.name, f"{needed.name} {have}",
                    f"{owner} needs {needed.name}{needed.specifier}",
                    f'Run: pip install "{needed.name}{needed.specifier}"',
                    note=needed.name not in ("numpy", "protobuf")))
    return found


def _keras_3() -> Problem | None:
    """Whether this process runs, or would run, TensorFlow over Keras 3."""
    why = ("TensorFlow-Recommenders and TF-Transformers need Keras 2 "
           "(tf-keras)")
    setting = os.environ.get("TF_USE_LEGACY_KERAS")
    # TensorFlow reads the variable while it is imported: setting it later
    # leaves a mixture of both.
    tensorflow = sys.modules.get("tensorflow")
    if getattr(tensorflow, "_tf_uses_legacy_keras", None) is False:
        return Problem(
            "keras", "TensorFlow was imported with Keras 3", why,
            "Import tfrecal before tensorflow and keras, or set "
            "TF_USE_LEGACY_KERAS=1 before Python starts.")
    if setting not in (None, "1", "true", "True"):
        return Problem(
            "keras", f"TF_USE_LEGACY_KERAS={setting}", why,
            "Unset it (tfrecal sets it to 1) or set TF_USE_LEGACY_KERAS=1.")
    return None


def _companions() -> list[Problem | None]:
    """Checks TensorFlow and packages that are bound to its minor version."""
    tensorflow = version("tensorflow")
    if tensorflow is None:
        return [_missing("tensorflow", f"tensorflow=={_dotted()}.0")]
    wanted = _minor(tensorflow)
    found = []
    for name, breaks in (
            ("tf-keras", "Keras 2 must come from the same minor version"),
            ("tensorflow-text", "its ops load into the TensorFlow that they "
             "were built for only")):
        have = version(name)
        pin = f"{name}=={wanted[0]}.{wanted[1]}.*" if wanted else name
        if have is None:
            found.append(_missing(name, pin))
        elif _minor(have) != wanted:
            found.append(Problem(
                name, f"{name} {have} beside tensorflow {tensorflow}",
                breaks, f'Run: pip install "{pin}"'))
    if version("tensorflow-recommenders") is None:
        # On macOS, TensorFlow-Recommenders requires the abandoned
        # tensorflow-macos.
        found.append(_missing(
            "tensorflow-recommenders", "tensorflow-recommenders==0.7.7",
            "--no-deps " if sys.platform == "darwin" else ""))
    if wanted != TENSORFLOW:
        found.append(Problem(
            "tensorflow", f"tensorflow {tensorflow}",
            f"tfrecal was run with {_dotted()} only",
            f'Where something fails, run: pip install "tensorflow=='
            f'{_dotted()}.*" "tf-keras=={_dotted()}.*" '
            f'"tensorflow-text=={_dotted()}.*"', note=True))
    return found


def _dotted() -> str:
    return ".".join(map(str, TENSORFLOW))


def _missing(name: str, pin: str, option: str = "") -> Problem:
    return Problem(name, f"{name} is not installed", "tfrecal needs it",
                   f'Run: pip install {option}"{pin}"')


def _transformers() -> Problem | None:
    have = version("transformers")
    if have is None:
        return _missing("transformers", f"transformers=={TRANSFORMERS}")
    minor = _minor(have) or (0, 0)
    if minor >= (5, 0):
        why = "it has no TensorFlow classes any more"
    elif minor >= (4, 54):
        why = "it cannot load safetensors weights into TensorFlow models"
    else:
        return None
    return Problem("transformers", f"transformers {have}", why,
                   f'Run: pip install "transformers=={TRANSFORMERS}"')


def _scann() -> Problem | None:
    """Checks ScaNN, which is built for one TensorFlow and crashes others."""
    have, tensorflow = version("scann"), version("tensorflow")
    built_for = {(1, 4): (2, 20)}.get(_minor(have))
    if tensorflow is None or built_for in (None, _minor(tensorflow)):
        return None
    pin = ".".join(map(str, built_for))
    return Problem(
        "scann", f"scann {have} beside tensorflow {tensorflow}",
        f"it is built for tensorflow {pin} and crashes beside another",
        f'Run: pip install "tensorflow=={pin}.*", or: pip uninstall scann')


def _extras() -> list[Problem]:
    found = []
    for extra, (packages, purpose) in EXTRAS.items():
        missing = [name for name in packages if version(name) is None]
        if missing:
            found.append(Problem(
                extra, f"{', '.join(missing)} not installed",
                f"only needed for {purpose}",
                f'Run: pip install ".[{extra}]"', note=True))
    return found


def machine() -> dict[str, str]:
    """Returns what decides the speed of this machine.

    Returns:
        name -> text: Python, system, cores, vector instructions, memory.
    """
    return {"python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": str(cores()), "vector instructions": _vectors(),
            "free memory": _free_memory()}


def cores() -> int:
    """Returns the number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _proc(path: str, key: str) -> str | None:
    """Returns the value of a "key: value" line of a Linux /proc file."""
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
    return ", ".join(v for v in _VECTORS if v in flags) or "not known"


def _free_memory() -> str:
    found = _proc("/proc/meminfo", "MemAvailable")
    if found is None:
        return "not known"
    size = int(found.split()[0]) * 1024
    little = ", little: close other programs" if size < _LITTLE else ""
    return f"{size / 2**30:.1f} GiB{little}"
