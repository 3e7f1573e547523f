"""write_report: writes a run or comparison as one self-contained HTML page."""
from __future__ import annotations

from pathlib import Path

import pandas as pd

try:
    import jinja2

    from tfrecal.report import figures
    from tfrecal.report.figures import OTHER
except ImportError as error:
    raise ImportError(
        f"A report needs jinja2 and matplotlib ({error}). Install them with "
        "`pip install \".[report]\"`.") from error

from tfrecal.compare import savings, verdicts
from tfrecal.files import write_bytes
from tfrecal.report import asked
from tfrecal.report.lines import (
    AXES,
    calibration_error,
    calibration_line,
    last_calibration,
    mean_line,
)
from tfrecal.report.results import Results

BASELINES = ("random", "target_matched")
_PICKS = 3  # sample questions a strategy
_PRECISE = {"rmse": "RMSE", "mae": "MAE", "ndcg": "NDCG", "auc": "AUC",
            "mrr": "MRR", "map": "MAP"}


def write_report(folder, path) -> None:
    """Writes the page; the same folder gives the same bytes.

    Args:
        folder: the folder of a comparison (`curves.parquet`) or a run
            (`history.csv`). A comparison that is not finished is reported
            as far as it is. `primary` of its config may name the metric
            that judges each scenario, as a dict; otherwise it is the first.
        path: the HTML file. In the folder, it is its owner's alone; one
            that is written elsewhere is made to be shared and follows the
            umask.

    Raises:
        ValueError: the folder holds neither, or no finished round.
    """
    results = Results.of_folder(folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    environment.filters["metric"] = metric_name
    html = environment.get_template("page.html").render(_Page(results).context)
    write_bytes(
        Path(path), html.encode(), private=Path(path).resolve().is_relative_to(
            Path(folder).resolve()))


def metric_name(metric: str) -> str:
    """Returns a metric as people write it: "RMSE by users"."""
    name, _, rest = metric.partition("_")
    stem, at, k = name.partition("@")
    if stem not in _PRECISE:
        return metric.replace("_", " ")
    by = f" by {rest.replace('_', ' ')}" if rest else ""
    return _PRECISE[stem] + at + k + by


class _Page:
    """Computes what the template shows (`context`)."""

    def __init__(self, results: Results):
        self.results = results
        self.metrics = savings.metric_names(results.curves)
        self.notes: list[str] = []
        self.savings = self._savings()
        self.styles = self._styles()
        self.axes = self._axes()
        self.context = {
            "name": results.name, "notes": self.notes,
            "facts": self._facts(),
            "legend": {style: figures.sample(style)
                       for style in range(len(figures.STYLES))},
            "styles": self.styles, "other": OTHER,
            "baselines": BASELINES, "baseline_name": verdicts.baseline_name,
            "scenarios": [self._scenario(n, name)
                          for n, name in enumerate(results.scenarios)]}

    def _savings(self) -> pd.DataFrame | None:
        """Returns the comparisons with all baselines.

        Only strategies that share two seeds or more with one are compared.
        """
        curves, tables = self.results.curves, []
        for baseline in BASELINES:
            kept = []
            for scenario, part in curves.groupby("scenario", sort=False):
                base = part[part["strategy"] == baseline]
                for strategy, rows in part.groupby("strategy", sort=False):
                    if len(savings.shared_seeds(rows, base)) > 1:
                        kept.append(rows)
                    elif len(base) and baseline == BASELINES[0]:
                        self.notes.append(
                            f"{strategy} in {scenario} shares fewer than 2 "
                            "seeds with random: no statistics yet.")
            kept = pd.concat(kept) if kept else curves[:0]
            if kept["strategy"].nunique() > 1:
                tables.append(savings.compare(kept, baseline))
        return pd.concat(tables, ignore_index=True) if tables else None

    def primary(self, scenario: str) -> str:
        """Returns the metric that judges a scenario."""
        found = (self.results.config.get("primary") or {}).get(scenario)
        return found if found in self.metrics else self.metrics[0]

    def rows(self, scenario: str, metric: str, baseline=BASELINES[0],
             at: float = 1.0) -> pd.DataFrame:
        """Returns the savings of a scenario, fewest labels first."""
        table = self.savings
        if table is None:
            return pd.DataFrame()
        return table[(table["scenario"] == scenario)
                     & (table["metric"] == metric) & (table["at"] == at)
                     & (table["baseline"] == baseline)].sort_values(
                         ["labels", "strategy"])

    def _styles(self) -> dict[str, int]:
        """Gives baselines and winners a style, the same on all of the page."""
        order: list[str] = []
        if self.savings is not None:
            best = [list(self.rows(scenario, self.primary(scenario))
                         .get("strategy", []))
                    for scenario in self.results.scenarios]
            # The first of each scenario, then the second of each, ...
            order = [names[place] for place in range(max(map(len, best)))
                     for names in best if place < len(names)]
        order = [name for name in dict.fromkeys(
            order + self.results.strategies) if name not in BASELINES]
        styles = {name: n for n, name in enumerate(BASELINES)}
        first = len(BASELINES)
        for n, name in enumerate(order):
            styles[name] = min(first + n, OTHER)
        return {name: styles[name] for name in sorted(
            self.results.strategies, key=lambda name: (styles[name], name))}

    def _axes(self) -> dict[str, str]:
        """Returns the axes; without cost where that is the label count."""
        curves = self.results.curves
        return {axis: name for axis, name in AXES.items()
                if axis in curves and curves[axis].notna().any()
                and not (axis == "cost"
                         and (curves["cost"] == curves["bought"]).all())}

    def _facts(self) -> list[tuple[str, str]]:
        curves, config = self.results.curves, self.results.config
        facts = [("data", str(config.get("data", "unknown"))),
                 ("strategies", f"{curves['strategy'].nunique()}"),
                 ("seeds", f"{curves['seed'].nunique()}"),
                 ("labels bought, at most", f"{curves['bought'].max():,.0f}"),
                 ("curves are of", f"the {self.results.part} part")]
        if self.results.test:
            facts.append(("test part, at the end", ", ".join(
                f"{metric_name(metric)} {value:.4f}"
                for metric, value in self.results.test.items())))
        return facts

    def _scenario(self, number: int, name: str) -> dict:
        curves = self.results.curves
        own = curves[curves["scenario"] == name]
        primary = self.primary(name)
        present = [metric for metric in self.metrics
                   if own[metric].notna().any()]
        first = [primary] if primary in present else []
        shown = [s for s in self.styles if s in set(own["strategy"])]
        return {
            "id": f"s{number}", "name": name, "primary": primary,
            "card": self._card(name, primary),
            "coloured": [s for s in shown if self.styles[s] != OTHER],
            "others": any(self.styles[s] == OTHER for s in shown),
            "seeds": own["seed"].nunique(),
            "figures": [
                (label, [self._figure(own, axis, metric,
                                      f"s{number}{axis}{n}")
                         for n, metric in enumerate(
                             first + [m for m in present if m != primary])])
                for axis, label in self.axes.items()],
            "tables": [
                (metric, tables) for metric in
                first + [m for m in present if m != primary]
                if (tables := self._tables(name, metric))],
            **self._asked(name), **self._calibration(name, number),
            "picks": self._picks(name)}

    def _figure(self, own, axis, metric, key) -> str:
        lines = [line for strategy, rows in own.groupby("strategy")
                 if (line := mean_line(rows, axis, metric,
                                       self.styles[strategy])) is not None
                 and len(line.x)]
        if not lines:
            return ""
        lines.sort(key=lambda line: -line.style)
        ends = {strategy: f"{line.y[-1]:.3g}" for strategy, style
                in self.styles.items() for line in lines
                if line.style == style != OTHER}
        about = (f"{metric_name(metric)} over {AXES[axis]}. At the end: "
                 + ", ".join(f"{s} {y}" for s, y in ends.items()) + ".")
        return figures.learning_curves(lines, AXES[axis],
                                       metric_name(metric), key, about)

    def _card(self, name: str, metric: str) -> dict | None:
        """Returns the verdict on a scenario and its best strategy."""
        rows = self.rows(name, metric)
        if not len(rows):
            return None
        table = self.savings
        full = table[(table["scenario"] == name)
                     & (table["metric"] == metric)]
        won = [row for row in rows.itertuples()
               if verdicts.kind(row) == "better"]
        early = [row for row in self.rows(name, metric, at=0.4).itertuples()
                 if verdicts.kind(row) == "better"]
        few = all(verdicts.kind(row) == "few" for row in rows.itertuples())
        return {
            "best": won[0] if won else None, "few": few,
            "early": early[0] if early else None,
            "text": verdicts.overall(full[full["at"] == 1.0])}

    def _tables(self, name: str, metric: str) -> list[dict]:
        tables = []
        for baseline in BASELINES:
            early = {row.strategy: row for row in self.rows(
                name, metric, baseline, 0.4).itertuples()}
            rows = [{"early": early[row.strategy], "whole": row,
                     "kind": verdicts.kind(row),
                     "shares": [
                         verdicts.labels_and_interval(row),
                         verdicts.labels_and_interval(early[row.strategy])]}
                    for row in self.rows(name, metric,
                                         baseline).itertuples()]
            if rows:
                tables.append({"baseline": baseline, "rows": rows})
        return tables

    def _asked(self, name: str) -> dict:
        table = self.results.asked
        own = None if table is None else table[table["scenario"] == name]
        if own is None or not len(own):
            return {"reach": None, "shares": [], "favourites": {}}
        order = [s for s in self.styles if s in set(own["strategy"])]
        kinds = asked.categories(own)
        shares = [("Labels the item had when it was asked about",
                   asked.coldness(own).loc[order])]
        if kinds is not None:
            shares.append(("Category of the item", kinds.loc[order]))
        found = asked.favourites(own)
        return {"reach": asked.coverage(own).loc[order], "shares": shares,
                "favourites": {s: found[s] for s in order}}

    def _calibration(self, name: str, number: int) -> dict:
        table = self.results.calibration
        own = None if table is None else table[table["scenario"] == name]
        if own is None or not len(own):
            return {"calibration": None}
        last = {strategy: last_calibration(rows)
                for strategy, rows in own.groupby("strategy")}
        lines = [line for strategy, rows in last.items()
                 if self.styles.get(strategy, OTHER) != OTHER
                 and (line := calibration_line(
                     rows, self.styles[strategy])) is not None]
        errors = {strategy: calibration_error(last[strategy])
                  for strategy in self.styles if strategy in last}
        about = ("Observed share over predicted probability. Expected "
                 "calibration error: " + ", ".join(
                     f"{s} {e:.3f}" for s, e in errors.items()) + ".")
        return {"calibration": {
            "figure": figures.calibration(lines, f"s{number}c", about),
            "errors": errors}}

    def _picks(self, name: str) -> list[tuple[str, list[dict]]]:
        """Returns the first questions of each strategy, with reasons."""
        own = [line for line in self.results.explanations
               if line.get("scenario") == name]
        return [(strategy, picks[:_PICKS]) for strategy in self.styles
                if (picks := [line for line in own
                              if line.get("strategy") == strategy])]
