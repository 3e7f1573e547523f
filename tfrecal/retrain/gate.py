"""Gate: is a retrained model as good as the one that is served?"""
from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a gate found.

    Attributes:
        passed: whether the candidate may be served.
        reason: why, in words.
        metric: what was compared, such as `"ndcg@10"`.
        users: number of users that both were judged on.
        serving, candidate: means of the metric over these users.
        difference: mean over users of candidate - serving.
        low, high: the 95% interval of the difference, by a bootstrap over
            users.
    """

    passed: bool
    reason: str
    metric: str
    users: int
    serving: float
    candidate: float
    difference: float
    low: float
    high: float

    def to_dict(self) -> dict:
        """Returns the verdict as a dict that JSON can hold."""
        return {name: (value if not isinstance(value, float)
                       or np.isfinite(value) else None)
                for name, value in dataclasses.asdict(self).items()}


def too_few(users: int, least: int) -> str:
    """Says why `users` users cannot judge, or "".

    This is known before any training.
    """
    if users >= least:
        return ""
    return (f"{users} users with held-out feedback are too few to tell; "
            f"{least} are needed")


def judge(serving, candidate, *, metric: str = "ndcg@10",
          tolerance: float = 0.05, least: int = 20, draws: int = 2000,
          seed: int = 0) -> Verdict:
    """Compares two models on the same users of fresh held-out feedback.

    The candidate passes where the interval of the difference leaves no room
    for a loss beyond `tolerance` (a test of non-inferiority) and does not
    lie wholly below zero. It does not pass where there are too few users to
    tell, because the served model has been seen to work.

    Args:
        serving, candidate: the metric of each user, `[users]`, in the same
            order; higher is better.
        metric: the metric's name, for the record.
        tolerance: the largest loss that is accepted, as a share of the
            served model's value.
        least: the least number of users that can judge.
        draws: number of draws of the bootstrap.
        seed: seed of the bootstrap.

    Returns:
        The `Verdict`.

    Raises:
        ValueError: lengths differ, or a value is not finite.
    """
    serving, candidate = (np.asarray(values, np.float64)
                          for values in (serving, candidate))
    if serving.shape != candidate.shape or serving.ndim != 1:
        raise ValueError(
            "`serving` and `candidate` must hold one value a user, of the "
            f"same users. Received: shapes {serving.shape} and "
            f"{candidate.shape}.")
    if not (np.isfinite(serving).all() and np.isfinite(candidate).all()):
        raise ValueError("Values of the gate must be finite. Received: NaN "
                         "or infinity.")
    users = len(serving)
    few = too_few(users, least)
    if few:
        means = [float(values.mean()) if users else float("nan")
                 for values in (serving, candidate)]
        return Verdict(
            False, few, metric, users, *means,
            means[1] - means[0], float("-inf"), float("inf"))
    gap = candidate - serving
    rng = np.random.default_rng([seed, 31])
    means = np.array([gap[rng.integers(0, users, users)].mean()
                      for _ in range(draws)])
    low, high = np.quantile(means, [0.025, 0.975])
    limit = tolerance * abs(serving.mean())
    found = f"{gap.mean():+.4f} [{low:+.4f}, {high:+.4f}] {metric}"
    if high < 0:
        passed, reason = False, f"the candidate is worse: {found}"
    elif low < -limit:
        passed, reason = False, (
            f"a loss of more than {limit:.4f} ({tolerance:.3g} of what is "
            f"served) cannot be ruled out: {found}")
        if limit:
            # The interval narrows with the root of the number of users.
            enough = users * ((gap.mean() - low) / limit) ** 2
            reason += (f"; {users:,} users were there, and of one that is "
                       f"as good about {enough:,.0f} could tell")
    elif low > 0:
        passed, reason = True, f"the candidate is better: {found}"
    else:
        passed, reason = True, f"no loss beyond {limit:.4f}: {found}"
    return Verdict(passed, reason, metric, users, float(serving.mean()),
                   float(candidate.mean()), float(gap.mean()), float(low),
                   float(high))
