"""Cluster: which workers do a run. This module needs no TensorFlow."""
from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import sys
import time

from tfrecal import checks

_SAY_AGAIN = 30  # seconds


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, and which of them this process is.

    Args:
        addresses: `host:port` of each worker; the first is the chief.
        index: the place of this process among them.
    """

    addresses: tuple[str, ...]
    index: int = 0

    @classmethod
    def from_environment(cls) -> "Cluster | None":
        """Reads `TF_CONFIG`; None where it names one worker or none.

        Raises:
            ValueError: `TF_CONFIG` is malformed, or has tasks other than
                `chief` and `worker`.
        """
        text = os.environ.get("TF_CONFIG", "").strip()
        if not text:
            return None
        try:
            config = checks.parse_json(text)
            cluster = dict(config.get("cluster") or {})
            task = config.get("task") or {}
            kind, index = task.get("type"), task.get("index")
        except (ValueError, TypeError, AttributeError) as error:
            raise _refused(f"{text}: {error}") from None
        if not cluster:
            return None
        strange = sorted(set(cluster) - {"chief", "worker"})
        if strange or kind not in cluster:
            raise _refused(
                f"the tasks {', '.join(strange)} (only chief and worker train"
                " in step)" if strange else f"task={json.dumps(task)}")
        addresses = []
        for job in ("chief", "worker"):
            some = cluster.get(job, [])
            if not isinstance(some, list) or not all(map(_is_address, some)):
                raise _refused(f"{job}={json.dumps(some)}")
            if job == kind:
                if type(index) is not int or not 0 <= index < len(some):
                    raise _refused(f"index={json.dumps(index)} of {len(some)}"
                                   f" tasks of type {kind}")
                own = len(addresses) + index
            addresses += some
        if len(set(addresses)) < len(addresses):
            raise _refused(f"an address twice in {addresses}")
        if len(cluster.get("chief", [])) > 1:
            raise _refused(f"chief={json.dumps(cluster['chief'])}")
        return cls(tuple(addresses), own) if addresses[1:] else None

    def wait(self, seconds: float) -> None:
        """Waits until every other worker listens at its address.

        TensorFlow itself would wait silently, and nothing could end that.

        Raises:
            ValueError: the port of this process is taken, or a worker is
                missing after `seconds`.
        """
        port = int(self.addresses[self.index].rpartition(":")[2])
        missing = {place: address for place, address
                   in enumerate(self.addresses) if place != self.index}
        started = told = time.monotonic()
        with _listen(port):
            while True:
                for place in list(missing):
                    if _listens(missing[place]):
                        del missing[place]
                if not missing:
                    return
                now = time.monotonic()
                names = ", ".join(f"worker {place} ({address})"
                                  for place, address in missing.items())
                if now - started > seconds:
                    raise ValueError(
                        f"All {len(self.addresses)} workers must start within"
                        f" {seconds:g} seconds. Received: nothing from "
                        f"{names}. Start the same command on every machine of"
                        " TF_CONFIG; TFRECAL_WORKERS_WAIT=SECONDS waits "
                        "longer.")
                if told == started or now - told > _SAY_AGAIN:
                    told = now
                    print(f"tfrecal: waiting for {names}", file=sys.stderr,
                          flush=True)
                time.sleep(0.2)


def _refused(received: str) -> ValueError:
    return ValueError(
        "`TF_CONFIG` must be JSON as {\"cluster\": {\"worker\": [\"host1:port"
        "\", \"host2:port\"]}, \"task\": {\"type\": \"worker\", \"index\": 0}"
        f"}}, each address once. Received: {received}. Unset it to train by "
        "one process.")


def _is_address(address) -> bool:
    host, _, port = str(address).rpartition(":")
    return bool(host and re.fullmatch("[0-9]{1,5}", port)) and (
        0 < int(port) < 65536)


def _listen(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(("", port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise ValueError(
            "The port of this worker in TF_CONFIG must be free. Received: "
            f"{port}: {error}. Choose another one, or wait for the process "
            "that has it to end.") from error
    return found


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), 1).close()
    except OSError:
        return False
    return True
