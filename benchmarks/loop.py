"""Does the whole loop run, and does each epoch train on every label?

The main job on MovieLens-100K with MiniLM's top layer, as `tfrecal demo`
does it: one `fit` that buys labels after each epoch. Rows trained are
counted in the graph, batch by batch, and must equal the rows labelled when
the epoch began, exactly. Then, without a change of code, the same on
Book-Crossing and on three CSV files such as a user would bring. What is
shown is of the validation part, first and last; the end on the test part is
in the JSON too.

    python benchmarks/loop.py [--quick]

`--quick` makes fewer and smaller rounds, and freezes the encoder on the
other two data sets.
"""
from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from tfrecal import datasets
from tfrecal.runs.config import RunConfig
from tfrecal.runs.run import run, verdict

SMALL = {"rounds": 3, "batch": 2000, "final_epochs": 1}


def rows_are_labelled(history: pd.DataFrame) -> bool:
    """Whether each epoch trained on all that was labelled at its start."""
    initial = history["labelled"].iloc[0] - history["acquired"].iloc[0]
    at_start = [initial, *history["labelled"].iloc[:-1]]
    return history["rows"].astype(int).tolist() == list(map(int, at_start))


def run_in(folder, name: str, quiet: bool = True, **options):
    """Runs a config in a folder of its own.

    Returns:
        Its history, one row an epoch, and a row of the second table.
    """
    start = time.perf_counter()
    config = RunConfig(**options)
    history = run(config, Path(folder) / name, quiet=quiet)
    test = history.attrs["test"]
    return history, {
        "data": name, "encoder": config.tuning,
        "rounds": int((history["acquired"] > 0).sum()),
        "labels": [int(history["rows"].iloc[n]) for n in (0, -1)],
        "ndcg10": _ends(history["val_ndcg@10"]),
        "rmse": _ends(history["val_rmse"]),
        "test_ndcg10": round(test["test_ndcg@10"], 4),
        "test_rmse": round(test["test_rmse"], 4),
        "rows_trained_equals_labelled": rows_are_labelled(history),
        "minutes": round((time.perf_counter() - start) / 60, 2)}


def _ends(column) -> list[float]:
    return [round(float(column.iloc[n]), 4) for n in (0, -1)]


def write_csv(data, folder) -> dict[str, str]:
    """Writes a data set as three plain files; returns options of a run."""
    tables = {"data": data.frame.drop(columns="weight", errors="ignore"),
              "users": data.users.rename_axis("user_id").reset_index(),
              "items": data.items.rename_axis("item_id").reset_index()}
    paths = {name: str(Path(folder) / f"{name}.csv") for name in tables}
    for name, table in tables.items():
        table.to_csv(paths[name], index=False)
    return paths


def show(rows: list[dict]) -> None:
    """The second table; "before" is the epoch on the initial labels."""
    print(f"\n{'data':15}{'encoder':>9}{'rounds':>8}{'labels':>17}"
          f"{'NDCG@10':>19}{'RMSE':>19}{'all trained':>13}{'minutes':>9}")
    for row in rows:
        labels = "{:,} > {:,}".format(*row["labels"])
        trained = "yes" if row["rows_trained_equals_labelled"] else "NO"
        print(f"{row['data']:15}{row['encoder']:>9}{row['rounds']:8}"
              f"{labels:>17}{'{:.4f} > {:.4f}'.format(*row['ndcg10']):>19}"
              f"{'{:.4f} > {:.4f}'.format(*row['rmse']):>19}"
              f"{trained:>13}{row['minutes']:9.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="fewer and smaller rounds")
    parser.add_argument("--strategy", default=RunConfig.strategy)
    arguments = parser.parse_args()
    options = {"strategy": arguments.strategy}
    if arguments.quick:
        options |= SMALL
    other = options | ({"tuning": "frozen"} if arguments.quick else {})
    with tempfile.TemporaryDirectory() as folder:
        history, first = run_in(folder, "ml-100k", quiet=False, **options)
        print(verdict(history))
        rows = [first]
        rows.append(run_in(
            folder, "book-crossing", data="book-crossing", **other)[1])
        files = write_csv(datasets.load("ml-100k"), folder)
        rows.append(run_in(folder, "three CSV files", **files, **other)[1])
    show(rows)
    equal = all(row["rows_trained_equals_labelled"] for row in rows)
    print(json.dumps({
        "rounds": first["rounds"], "rows_trained_equals_labelled": equal,
        "minutes": first["minutes"], "strategy": arguments.strategy,
        "runs": rows}))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
