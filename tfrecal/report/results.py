"""Results: the tables in the folder of a run or of a comparison."""
from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.checks import read_json
from tfrecal.compare import tables
from tfrecal.files import damaged
from tfrecal.pool.pool import STATES
from tfrecal.pool.run_folder import (
    AGAIN,
    RESUME,
    RunFolder,
    cost_of_labels,
    measured_part,
)

#: Metrics of a run's history that a report shows, in order.
_OF_A_RUN = ("rmse", "auc", "ndcg@10", "recall@10", "coverage@10")


@dataclass
class Results:
    """The tables of a report, in one form for runs and comparisons.

    Args:
        name: the folder's name.
        config: the config of the run or comparison, as a dict.
        curves: one row a scenario, strategy, seed, draw and round.
        asked: one row a bought label, or None.
        explanations: sample picks, as dicts.
        calibration: predicted and observed probabilities, or None.
        part: the part of the data that the curves are of: `"validation"`
            or `"test"`.
        test: metric -> its value on the test part at the end of a run.
    """

    name: str
    config: dict
    curves: pd.DataFrame
    asked: pd.DataFrame | None = None
    explanations: list[dict] = field(default_factory=list)
    calibration: pd.DataFrame | None = None
    part: str = "test"
    test: dict[str, float] = field(default_factory=dict)

    @property
    def scenarios(self) -> list[str]:
        """The names of the scenarios, in the order of the curves."""
        return list(dict.fromkeys(self.curves["scenario"]))

    @property
    def strategies(self) -> list[str]:
        """The names of the strategies, in the order of the curves."""
        return list(dict.fromkeys(self.curves["strategy"]))

    @classmethod
    def of_folder(cls, folder) -> "Results":
        """Reads a comparison (`curves.parquet`) or a run (`history.csv`).

        Raises:
            ValueError: the folder holds neither, or one without a row, or a
                file is damaged.
        """
        folder = Path(folder)
        if any((folder / f"{name}.parquet").exists()
               for name in tables.TABLES):
            found = cls(folder.resolve().name,
                        tables.read_config(folder) or {},
                        tables.read_table(folder, "curves"),
                        tables.read_table(folder, "asked", needed=False),
                        tables.read_explanations(folder),
                        tables.read_table(folder, "calibration",
                                          needed=False))
        elif any((folder / name).exists()
                 for name in ("history.csv", "state.json")):
            found = _of_run(folder)
        else:
            why = ("which has neither" if folder.is_dir() else
                   "which is no folder" if folder.exists() else
                   "which is missing")
            raise ValueError(
                "A report needs the folder of a comparison, with "
                "curves.parquet, or of a run, with history.csv. Received: "
                f"{folder}, {why}. Make one with `tfrecal "
                "compare` or `tfrecal run`; a run has its history after the "
                "first epoch.")
        if not len(found.curves):
            raise ValueError(
                "A report needs at least one finished round. Received: "
                f"{folder}, which has none yet. Let it go on.")
        return found


def _of_run(path: Path) -> Results:
    folder = RunFolder(path)
    config = read_json(folder.checked("config.json"),
                       "The config of a run", AGAIN)
    try:
        key = {"scenario": str(config.get("data", path.name)),
               "strategy": str(config.get("strategy", "run")),
               "seed": int(config.get("seed", 0))}
    except (TypeError, ValueError):
        raise damaged(folder / "config.json", "A config must hold a whole "
                      "number as seed", f"with seed={config['seed']!r}",
                      AGAIN) from None
    for odd in folder.odd_files():
        print(f"{odd} is not as the run has written it. The report shows what "
              f"state.json holds; `tfrecal run --resume {path}` writes it "
              "anew.", file=sys.stderr)
    history = folder.history()
    parts = measured_part(history)
    part = parts.iloc[-1] if len(parts) else "validation"
    # A run begun by an earlier version has rows of the test part first.
    judged = history.where(parts == part)
    seconds = history.filter(regex="_seconds$").fillna(0).sum(axis=1)
    curves = pd.DataFrame({
        **key, "draw": 0, "round": history["epoch"],
        "labels": history["rows"],
        "bought": history["rows"] - history["rows"].iloc[0],
        "cost": cost_of_labels(history),
        "seconds": seconds.cumsum(),
        **{name: judged[f"val_{name}"] for name in _OF_A_RUN
           if f"val_{name}" in history}})
    explanations = [{**key, **line}
                    for line in folder.explanations()]
    test = folder.test
    return Results(path.resolve().name, config, curves,
                   _asked_by_run(folder, key), explanations,
                   part=part, test={
                       name: test[f"test_{name}"] for name in _OF_A_RUN
                       if f"test_{name}" in test})


def _asked_by_run(folder: RunFolder, key: dict) -> pd.DataFrame | None:
    """Returns answered questions, with the labels each item had then."""
    if not (folder / "acquisitions.parquet").exists():
        if "acquisitions.parquet" in folder.state.get("files", {}):
            folder.checked("acquisitions.parquet")  # says that it is missing
        return None
    asked = folder.acquisitions()
    if not len(asked):
        return None
    pool = folder.arrays("item", "ticket", "state")
    item, ticket = pool["item"], pool["ticket"]
    labelled = pool["state"] == STATES.index("labelled")
    rows = np.flatnonzero(ticket >= 0)
    # After a kill, the table may be that of the save before.
    codes = item[rows[np.argsort(ticket[rows])]][:len(asked)]
    if len(codes) < len(asked):
        raise damaged(
            folder / "acquisitions.parquet", "The questions of a run must be "
            "those of its pool", f"with {len(asked)} of {len(codes)}",
            RESUME)
    initial = np.bincount(item[labelled & (ticket < 0)],
                          minlength=item.max() + 1)
    answered = (asked["state"] == "labelled").to_numpy()
    earlier = np.zeros(len(asked), int)
    bought = np.zeros_like(initial)
    for number in np.unique(asked["round"]):
        now = (asked["round"] == number).to_numpy()
        earlier[now] = bought[codes[now]]
        bought += np.bincount(codes[now & answered], minlength=len(bought))
    return asked.assign(**key, item_labels=initial[codes] + earlier,
                        category=None)[answered]
