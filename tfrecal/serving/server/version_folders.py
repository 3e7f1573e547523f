"""Which versions of a model should be loaded, from its folder and policy."""
from __future__ import annotations

import re
from pathlib import Path

from grpc import StatusCode

from tfrecal.serving.server.errors import ServingError

_NUMBER = re.compile(r"\s*[+-]?\d+\s*", re.ASCII)
_INT64 = range(-(1 << 63), 1 << 63)


def folders(base_path) -> dict[int, Path]:
    """Returns version -> folder for the children of a base path.

    A child counts if its whole name is a number and if it lies under the base
    path once links are resolved. Where `1` and `001` are both there, the last
    by name is taken.

    Raises:
        ServingError: NOT_FOUND if the base path is no folder.
    """
    base = Path(base_path)
    try:
        names = sorted(child.name for child in base.iterdir())
        inside = base.resolve()
    except OSError as error:
        raise ServingError(
            StatusCode.NOT_FOUND, f"Could not find base path {base}: "
            f"{error.strerror}. Versions are looked for again.") from error
    found = {}
    for name in names:
        if not _NUMBER.fullmatch(name) or int(name) not in _INT64:
            continue
        folder = base / name
        if folder.resolve().is_relative_to(inside):
            found[int(name)] = folder
    return found


def aspired(found: dict, policy) -> set[int]:
    """Returns the versions of `found` that a policy asks for.

    Args:
        found: what `folders` returned.
        policy: a `ServableVersionPolicy`; unset means the latest.
    """
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return set(found)
    if choice == "specific":
        return set(policy.specific.versions) & set(found)
    number = max(policy.latest.num_versions, 1)
    return set(sorted(found)[-number:])
