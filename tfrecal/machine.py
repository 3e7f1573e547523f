"""What tells of the speed to expect of this machine."""
from __future__ import annotations

import os
import platform

_VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_LITTLE = 4 * 2**30


def describe() -> dict[str, str]:
    """Name -> text: Python, system, cores, vector instructions, memory."""
    return {"python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": str(cores()), "vector instructions": _vectors(),
            "free memory": _free_memory()}


def cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _proc(path: str, key: str) -> str | None:
    """The value of the first "key: value" line of a Linux /proc file."""
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
