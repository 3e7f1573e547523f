"""Puts the result of a comparison into words, "no difference" included."""
from __future__ import annotations

import math

import pandas as pd

#: A corrected p value below this is called significant.
SIGNIFICANT = 0.05
_NAMES = {"target_matched": "target-matched random"}


def baseline_name(baseline: str) -> str:
    """Returns the name of a baseline in a sentence."""
    return _NAMES.get(baseline, baseline)


def seeds_needed(tests: int) -> int:
    """Returns the seeds with which one of so many tests can be significant.

    Wilcoxon's smallest two-sided p with n seeds is 2 / 2**n, and Holm
    multiplies the smallest by the number of tests.
    """
    return math.ceil(math.log2(2 * tests / SIGNIFICANT))


def kind(row) -> str:
    """Says in one word what a row of `savings.compare` shows.

    Returns:
        "few" (no outcome could be significant), "none" (no significant
        difference), "worse", "better", or "unclear": better over the curve,
        but the interval of the labels contains 1.
    """
    if row.seeds < seeds_needed(row.tests):
        return "few"
    if not row.p_holm <= SIGNIFICANT:
        return "none"
    if not row.better:
        return "worse"
    # Rounded as printed: an interval that reads [95%, 100%] promises nothing.
    return "better" if round(row.high, 2) < 1 else "unclear"


def share(row) -> str:
    """Writes the labels needed, such as "31% [27%, 36%]"."""
    found, interval = labels_and_interval(row)
    return f"{found} {interval}".strip()


def labels_and_interval(row) -> tuple[str, str]:
    """Writes the labels needed and their interval, as two texts."""
    if pd.isna(row.labels):
        return "not to be told", ""
    least = "" if row.reached else "at least "
    return (f"{least}{row.labels:.0%}", f"[{row.low:.0%}, {row.high:.0%}]")


def sentence(row) -> str:
    """Puts one row of `savings.compare` into words."""
    name = baseline_name(row.baseline)
    found, labels = kind(row), row.labels
    change = f"{row.metric} {row.area:+.4f} on average"
    if found == "better":
        return (f"needs {labels:.0%} of {name}'s labels "
                f"[{row.low:.0%}, {row.high:.0%}]")
    if found == "worse":
        if pd.isna(labels) or (row.reached and labels <= 1):
            return f"worse than {name}: {change}"
        if not row.reached:
            return (f"worse than {name}: not as good with its whole budget, "
                    f"at least {labels:.1f} times {name}'s labels "
                    f"[{row.low:.1f}, {row.high:.1f}]")
        return (f"worse than {name}: needs {labels:.1f} times its labels "
                f"[{row.low:.1f}, {row.high:.1f}]")
    about = (change if pd.isna(labels) else
             f"{share(row)} of {name}'s labels")
    if found == "unclear":
        return (f"better than {name} over the curve ({change}), but labels "
                f"saved are not certain: {share(row)}")
    if found == "none":
        return (f"no significant difference from {name} ({about}, "
                f"p {row.p_holm:.2g})")
    return (f"too few seeds to tell: {row.seeds} here, and {row.tests} "
            f"{'test needs' if row.tests == 1 else 'tests need'} at least "
            f"{seeds_needed(row.tests)} ({about} so far)")


def overall(rows: pd.DataFrame) -> str:
    """Writes a paragraph on one scenario and metric.

    Args:
        rows: rows of `savings.compare` of one scenario, metric and level. If
            there are several baselines, "random", or else the first, leads.
    """
    names = list(dict.fromkeys(rows["baseline"]))
    first = "random" if "random" in names else names[0]
    name = baseline_name(first)
    lead = rows[rows["baseline"] == first]
    found = {row.strategy: kind(row) for row in lead.itertuples()}
    better = [row for row in lead.sort_values("labels").itertuples()
              if found[row.strategy] == "better"]
    if set(found.values()) == {"few"}:
        row = next(lead.itertuples())
        return (f"Too few seeds to tell: {row.seeds} here, and {row.tests} "
                f"{'test needs' if row.tests == 1 else 'tests need'} at "
                f"least {seeds_needed(row.tests)}. Nothing below is a "
                "result yet.")
    said = []
    if better:
        best = better[0]
        said.append(f"{best.strategy} {sentence(best)}.")
        said += _beside(rows[(rows["baseline"] != first)
                             & (rows["strategy"] == best.strategy)])
        if better[1:]:
            others = _listed([f"{row.strategy} ({share(row)})"
                              for row in better[1:]])
            said.append(f"Fewer labels than {name} need also {others}.")
    else:
        said.append(f"No strategy beats {name} here.")
    for key, text in (
            ("unclear", "Better over the curve, with labels saved that are "
             "not certain:"), ("worse", f"Worse than {name}:"),
            ("none", f"No significant difference from {name}:")):
        some = [strategy for strategy, k in found.items() if k == key]
        if some:
            said.append(f"{text} {_listed(some)}.")
    return " ".join(said)


def _beside(rows: pd.DataFrame) -> list[str]:
    """Compares the best strategy with baselines that know the audience."""
    said = [sentence(row) for row in rows.itertuples()]
    return [f"It {text}." if text.startswith("needs")
            else f"{text[0].upper()}{text[1:]}." for text in said]


def _listed(names: list[str]) -> str:
    most = 6
    if len(names) > most + 1:
        names = [*names[:most], f"{len(names) - most} more"]
    return (", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1
            else names[0])
