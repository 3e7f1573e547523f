"""What must hold before a search begins; no TensorFlow."""
from __future__ import annotations

from tfrecal import checks
from tfrecal.data.interactions import Interactions
from tfrecal.data.splits import Split
from tfrecal.pool.positives import default_positive
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_split
from tfrecal.runs.plan import Plan

OBJECTIVES = {"ndcg@10": "max", "rmse": "min"}


def check(config: RunConfig, data: Interactions, *, trials: int,
          seconds: float | None, objective: str) -> tuple[Plan, Split]:
    """Checks the budget and the objective of a search, on its data.

    Returns:
        The plan of a run of the config, and the parts of the data.

    Raises:
        ValueError: a run of the config makes no sense, there is no validation
            part, or nothing can be measured by the objective.
    """
    checks.whole(1, trials=trials)
    checks.positive(**checks.given(seconds=seconds))
    checks.one_of("objective", objective, OBJECTIVES)
    split = load_split(config, data)
    plan = Plan.of(config, split)
    if not len(split.validation):
        raise ValueError("A search needs validation rows. Received: none by "
                         f"split={config.split!r}. Choose another split.")
    positive = default_positive(data.scale)
    if objective != "rmse" and not (split.validation.label >= positive).any():
        raise ValueError(
            f"This objective needs positives. Received: {objective} with "
            f"{len(split.validation):,} validation rows, none with a label of"
            f" {positive:g} or more. Bring more rows, or choose `--objective "
            "rmse`.")
    if objective == "rmse" and (
            data.scale == (0, 1) or "rating" not in plan.config.loss_names):
        why = ("labels 0 and 1" if data.scale == (0, 1)
               else f"losses={plan.config.losses!r}, which predict no ratings")
        raise ValueError("This objective needs ratings. Received: rmse with "
                         f"{why}. Choose `--objective ndcg@10`.")
    return plan, split
