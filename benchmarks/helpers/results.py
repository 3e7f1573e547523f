"""Results of fits that are kept in a folder, and tables of them by seed."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np


def kept(folder: str | None, name: str, make):
    """What `make` returns; from the folder where it is there already."""
    path = folder and Path(folder) / f"{name}.json"
    if path and path.exists():
        return json.loads(path.read_text())
    print(f"{name} ...", file=sys.stderr, flush=True)
    result = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return result


def show(title: str, rows: dict, keys: dict) -> None:
    """Prints means and standard deviations over seeds."""
    width = max(map(len, keys)) + 2
    print(f"\n{title:24}" + "".join(f"{name:>{max(18, width)}}"
                                    for name in keys))
    for name, found in rows.items():
        cells = []
        for key in keys.values():
            values = [one[key] for one in found]
            spread = (f" ({np.std(values, ddof=1):.4f})"
                      if len(values) > 1 else "")
            cells.append(f"{np.mean(values):.4f}{spread}")
        print(f"{name:24}" + "".join(f"{cell:>{max(18, width)}}"
                                     for cell in cells), flush=True)


def mean(found: list[dict], key: str) -> float:
    return float(np.mean([one[key] for one in found]))
