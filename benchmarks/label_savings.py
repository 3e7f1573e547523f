"""How many labels does a strategy need, beside random and matched random?

MovieLens-100K with all-MiniLM-L6-v2 (frozen), a two-tower model trained
through ten rounds (six where the pool looks like the audience) to half of
what can be bought. Eight audiences (see `tfrecal.compare.scenarios`), paired
seeds that nothing was tuned on, two draws of random for each. `labels` is what
the strategy must buy to be as good as random is with its whole budget (40% of
it where the scenario says so), divided by what random bought: 0.25 is a
quarter of the labels. Intervals are 95%, by a paired bootstrap over seeds;
tests are Wilcoxon's with Holm's correction. `beside_target_matched` is the
same ratio over random draws that know the audience.

The default strategy (`vopt`) is judged everywhere; five others where the
pool looks like the audience, by ratings and by lists (eight seeds are enough
for six tests).

    python benchmarks/label_savings.py [--quick] [--seeds 8] [--folder FOLDER]

Two cores need about an hour and a half; a run that was stopped goes on in its
folder. `--quick` takes two seeds, two short rounds of few labels, no encoder:
it shows that all scenarios run, and its figures say nothing.
"""
from __future__ import annotations

import argparse
import json
import tempfile

import pandas as pd

from tfrecal.compare import comparison, savings, scenarios
from tfrecal.compare.config import ComparisonConfig

SETTINGS = {"segment": "age <= 21", "first_seed": 10}
DEFAULT = {"rounds": 10, "scenarios": ",".join(
    name for name in scenarios.names() if name not in ("standard", "recall"))}
STANDARD = {"scenarios": "standard,recall", "strategies": ",".join((
    "vopt", "core_set", "badge", "user_coverage", "predictive_variance",
    "highest_predicted"))}
QUICK = {"rounds": 2, "draws": 1, "steps": 10, "first_steps": 30, "passes": 3,
         "budget": 0.1, "encoder": "none"}
# Labels needed, at most: (scenario, strategy or any) -> goal.
GOALS = {"segment": 0.25, "cold_users": 0.6, "cold_items": 0.6,
         "redundant": 0.6, "item_averaged": 0.33, "recall": 0.5,
         "new_users": 0.8, "new_items": 0.7, "standard": 0.9}


def measure(folder: str, seeds: int, workers: int,
            quick: bool = False) -> pd.DataFrame:
    """Rows of `savings.compare` on what each scenario counts."""
    tables = []
    for name, settings in (("audiences", DEFAULT), ("standard", STANDARD)):
        config = ComparisonConfig(**{
            "seeds": seeds, **SETTINGS, **settings,
            **(QUICK if quick else {})})
        curves = comparison.compare(config, f"{folder}/{name}", workers)
        tables.append(comparison.summary(curves))
        if name == "audiences":
            tables.append(early(curves))
    return pd.concat(tables, ignore_index=True)


def early(curves: pd.DataFrame) -> pd.DataFrame:
    """The segment beside matched random at 20% of its budget."""
    part = curves[(curves["scenario"] == "segment")
                  & (curves["strategy"] != "random")]
    keys = [name for name in part if name not in savings.metric_names(part)]
    return savings.compare(part[[*keys, "rmse"]], "target_matched",
                           at=(0.2,))


def headline(table: pd.DataFrame) -> dict:
    """One object a scenario: its best strategy, and the default."""
    found = {}
    for name, rows in table[table["baseline"] == "random"].groupby(
            "scenario", sort=False):
        rows = rows[rows["strategy"] != "target_matched"]
        best = rows.loc[rows["labels"].idxmin()]
        default = rows[rows["strategy"] == "vopt"].iloc[0]
        matched = table[(table["baseline"] == "target_matched")
                        & (table["scenario"] == name)
                        & (table["strategy"] == "vopt")]
        found[name] = {
            "strategy": best["strategy"], "labels": round(best["labels"], 3),
            "low": round(best["low"], 3), "high": round(best["high"], 3),
            "goal": GOALS[name], "p_holm": round(best["p_holm"], 4),
            "vopt": [round(default[key], 3)
                     for key in ("labels", "low", "high")],
            "vopt_beside_target_matched": {
                f"{row.at:g}": [round(row.labels, 3), round(row.low, 3),
                                round(row.high, 3)]
                for row in matched.itertuples()}}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="two seeds, few labels, no encoder")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", help="keeps the runs; one that was begun "
                        "is gone on with (default: a temporary folder)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as beside:
        table = measure(arguments.folder or beside,
                        2 if arguments.quick else arguments.seeds,
                        arguments.workers, arguments.quick)
    print(comparison.spoken(table))
    print(json.dumps(headline(table)))


if __name__ == "__main__":
    main()
