"""Tables of which users and items each strategy asked about."""
from __future__ import annotations

import pandas as pd

#: Classes of the number of labels that an item had when it was asked about:
#: (the least number, name).
COLDNESS = ((0, "0"), (1, "1–2"), (3, "3–9"), (10, "10–29"), (30, "30+"))


def coverage(asked: pd.DataFrame) -> pd.DataFrame:
    """Counts the users and items that were asked about, in means over seeds.

    Args:
        asked: rows of one scenario.

    Returns:
        One row a strategy: `labels`, `users`, `items`, `median_item_labels`
        and, where labels came, `mean_label`.
    """
    runs = asked.groupby(["strategy", *_run_keys(asked)], sort=False)
    table = pd.DataFrame({
        "labels": runs.size(), "users": runs["user_id"].nunique(),
        "items": runs["item_id"].nunique(),
        "median_item_labels": runs["item_labels"].median(),
        "mean_label": runs["label"].mean()})
    return table.groupby("strategy", sort=False).mean()


def coldness(asked: pd.DataFrame) -> pd.DataFrame:
    """Returns shares of questions by labels of the item, a row a strategy."""
    edges = [low for low, _ in COLDNESS] + [float("inf")]
    bins = pd.cut(asked["item_labels"], edges, right=False,
                  labels=[name for _, name in COLDNESS])
    return _shares(asked["strategy"], bins)


def categories(asked: pd.DataFrame, most: int = 8) -> pd.DataFrame | None:
    """Returns shares of questions by category, the most frequent first.

    Args:
        asked: rows of one scenario.
        most: number of categories that get a column; the rest share one.

    Returns:
        One row a strategy, or None where no item has a category.
    """
    found = asked.get("category")
    if found is None or found.notna().sum() == 0:
        return None
    found = found.fillna("(none)").astype(str)
    counts = found.value_counts()
    # Ties go by name, so that the order does not depend on that of the rows.
    order = sorted(counts.index, key=lambda name: (-counts[name], name))
    kept = order[:most]
    rest = f"{len(order) - most} more"
    named = found.where(found.isin(kept), rest)
    return _shares(asked["strategy"], pd.Categorical(
        named, kept + [rest] * (len(order) > most)))


def favourites(asked: pd.DataFrame, most: int = 5) -> dict[str, list]:
    """Returns strategy -> the items asked about most, with times a run."""
    found = {}
    for strategy, rows in asked.groupby("strategy", sort=False):
        runs = rows.groupby(_run_keys(rows)).ngroups
        counts = rows["item_id"].astype(str).value_counts()
        order = sorted(counts.index, key=lambda name: (-counts[name], name))
        found[strategy] = [(name, counts[name] / runs)
                           for name in order[:most]]
    return found


def _run_keys(asked: pd.DataFrame) -> list[str]:
    return [name for name in ("seed", "draw") if name in asked]


def _shares(strategy: pd.Series, bins) -> pd.DataFrame:
    order = list(dict.fromkeys(strategy))
    return pd.crosstab(strategy.to_numpy(), bins, normalize="index",
                       dropna=False).loc[order]
