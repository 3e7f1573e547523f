"""Waits until a server serves a version, and withdraws versions."""
from __future__ import annotations

import os
import time
from pathlib import Path

import filelock
import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from tfrecal.export.manifest import read_manifest
from tfrecal.serving.server.version_folders import folders

_STATES = get_model_status_pb2.ModelVersionStatus.State


class NotServed(OSError):
    """A server does not come to serve a version."""


def states(address: str, model: str,
           timeout: float = 5.0) -> dict[int, tuple[str, str]]:
    """Asks a server for the states of a model's versions.

    Args:
        address: "host:port".
        model: the model's name on the server.
        timeout: seconds.

    Returns:
        version -> `(state, error message)`; the state is one of TensorFlow
        Serving's names, such as "AVAILABLE". The dict is empty where the
        server does not know the model.

    Raises:
        NotServed: the server does not answer.
    """
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    with grpc.insecure_channel(address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        try:
            rows = stub.GetModelStatus(
                request, timeout=timeout).model_version_status
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise NotServed(
                f"A server must answer at {address}. Received: "
                f"{error.code().name}: {error.details()}. Start it with "
                "`tfrecal serve`, or give its --address.") from error
    return {int(row.version): (_STATES.Name(row.state),
                               row.status.error_message) for row in rows}


def wait_served(address: str, model: str, version: int,
                timeout: float = 120.0, poll: float = 0.2) -> None:
    """Returns when the server reports the version as AVAILABLE.

    Args:
        address, model: see `states`.
        version: the version to wait for.
        timeout: seconds after which the wait is given up.
        poll: seconds between two looks.

    Raises:
        NotServed: the version cannot be loaded, or not in time.
    """
    end = time.monotonic() + timeout
    seen = "nothing of it"
    while True:
        try:
            state, message = states(address, model).get(version, ("", ""))
            seen = f"{state or 'nothing of it'} {message}".strip()
        except NotServed as error:
            seen, state, message = str(error), "", ""
        if state == "AVAILABLE":
            return
        # END with a message is a load that failed for good; a load that is
        # tried again is LOADING.
        if (state == "END" and message) or time.monotonic() > end:
            raise NotServed(
                f"The server at {address} must report version {version} of "
                f"{model!r} as AVAILABLE within {timeout:g} seconds. "
                f"Received: {seen}. Look at the server's log; it serves the "
                "version before.")
        time.sleep(poll)


def _check_base(base: Path) -> None:
    if not base.is_dir():
        why = "is no folder" if base.exists() else "is missing"
        raise ValueError("`--to` must be the base path of a model. "
                         f"Received: {base}, which {why}. Check the path.")


def rollback_target(base_path, to: int | None = None) -> Path:
    """Returns the folder of the version that `rollback` would go back to.

    Args:
        base_path, to: see `rollback`.

    Raises:
        ValueError: see `rollback`.
    """
    base = Path(base_path)
    _check_base(base)
    found = folders(base)
    folder = found[_target(base, sorted(found), to)]
    read_manifest(folder)
    return folder


def _target(base: Path, found: list[int], to: int | None) -> int:
    below = found[:-1] if to is None else [
        number for number in found if number == to]
    if not below:
        raise ValueError(
            "There must be a version to go back to. Received: "
            f"{base} with version(s) {', '.join(map(str, found)) or '-'}"
            f"{'' if to is None else f', to={to}'}.")
    return below[-1]


def withdraw(base_path, version: int) -> Path:
    """Hides a version from servers in one step; its number stays taken.

    Args:
        base_path: the model's base path.
        version: the version to hide.

    Returns:
        The hidden folder, which may be looked at or deleted.
    """
    base = Path(base_path)
    hidden = base / f".withdrawn-{version}"
    os.rename(base / str(version), hidden)
    return hidden


def rollback(base_path, to: int | None = None) -> tuple[int, list[int]]:
    """Hides the newest version, or all versions above one.

    A server that polls the base path goes back to the version below without
    a gap. The folders are kept as `.withdrawn-<version>`.

    Args:
        base_path: the model's base path.
        to: the version that becomes the newest; None for the second newest.

    Returns:
        `(newest now, [withdrawn])`.

    Raises:
        ValueError: there is no version to go back to, or it is not whole.
    """
    base = Path(base_path)
    _check_base(base)
    with filelock.FileLock(base / ".lock"):
        found = folders(base)
        newest = _target(base, sorted(found), to)
        read_manifest(found[newest])
        gone = [number for number in sorted(found) if number > newest]
        for number in reversed(gone):  # the newest goes first
            withdraw(base, number)
    return newest, gone
