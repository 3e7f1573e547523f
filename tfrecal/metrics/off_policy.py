"""Off-policy estimates: what a candidate would have earned, from old lists.

A row is a slot of a list that was shown. Its row weight says how much likelier
the candidate is to put this item at this rank than the logging policy was. The
value of a list is the sum of its slots' rewards.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfrecal import checks

_NEEDED = 100  # effective requests
_OFF = 0.05  # of a mean weight from 1
_GROUPS = 20_000  # units that a bootstrap draws from
_CELLS = 1 << 22  # numbers held at once: 32 MiB


@dataclass(frozen=True)
class Estimate:
    """The value of a candidate policy, in reward per request.

    Attributes:
        value, low, high: the estimate and its interval.
        logged: what the logging policy earned on the same requests.
        gain, gain_low, gain_high: `value - logged`, and the interval of the
            difference (both are drawn together).
        requests: number of requests.
        effective_size: number of equally weighted requests that would tell
            as much (Kish).
        support: share of slots at which the candidate could have put what
            was shown.
        mean_weight: mean row weight before clipping. It is 1 up to chance if
            all that the candidate could show could have been logged; less is
            the share that the log knows of.
        largest_weight: largest row weight before clipping.
        warning: why the estimate says nothing, or less than it seems to; ""
            if it can be trusted.
    """

    value: float
    low: float
    high: float
    logged: float
    gain: float
    gain_low: float
    gain_high: float
    requests: int
    effective_size: float
    support: float
    mean_weight: float
    largest_weight: float
    warning: str


def ips(request, reward, propensity, target, *, rank=None, unit=None,
        clip: float | None = None, level: float = 0.95, draws: int = 1000,
        seed: int = 0) -> Estimate:
    """Inverse propensity scoring, for lists slot by slot.

    The estimate is the sum over slots of reward x target / propensity, per
    request. It is unbiased if propensities are right, the candidate shows
    nothing that the log never could, and a slot's reward depends on its item
    and rank only. `snips` varies less.

    Args:
        request: number or name of the request of each slot, `[n]`.
        reward: 1 for a click, or any number, `[n]`.
        propensity: probability in (0, 1] with which the logging policy put
            this item at this rank, `[n]`.
        target: the candidate's probability of this, in [0, 1]; 0 or 1 for a
            fixed list (`list_target`), `[n]`.
        rank: rank of each slot, 1 is first, `[n]`; None for lists of one.
        unit: what is drawn for the interval, such as the user, `[n]`; by
            default the request. A request belongs to one unit.
        clip: row weights above it are cut to it. The estimate then varies
            less and, with rewards of 0 or more, is too low.
        level: level of the interval.
        draws: number of draws of the bootstrap over units.
        seed: draws the bootstrap.

    Returns:
        The `Estimate`.

    Raises:
        ValueError: arrays have different lengths, or values are out of
            range.

    Reference:
        Li et al. 2018, "Offline Evaluation of Ranking Policies with Click
        Models", arXiv 1804.10488 (item-position estimator); clipping:
        Ionides 2008, "Truncated Importance Sampling", and Bottou et al.
        2013, "Counterfactual Reasoning and Learning Systems", arXiv
        1209.2355.
    """
    return _estimate(_ips, request, reward, propensity, target, rank, unit,
                     clip, level, draws, seed)


def snips(request, reward, propensity, target, *, rank=None, unit=None,
          clip: float | None = None, level: float = 0.95, draws: int = 1000,
          seed: int = 0) -> Estimate:
    """Self-normalised `ips`: row weights are divided by their mean by rank.

    It is slightly biased in small samples and varies far less. Adding a
    number to each reward adds it to the estimate, and propensities need to
    be known only up to a factor for each rank.

    Args:
        request, reward, propensity, target, rank, unit: as in `ips`.
        clip, level, draws, seed: as in `ips`.

    Returns:
        The `Estimate`.

    Raises:
        ValueError: as in `ips`.

    Reference:
        Swaminathan and Joachims 2015, "The Self-Normalized Estimator for
        Counterfactual Learning" (NeurIPS).
    """
    return _estimate(_snips, request, reward, propensity, target, rank, unit,
                     clip, level, draws, seed)


def list_target(request, rank, item, lists) -> np.ndarray:
    """Returns `target` of fixed lists: 1 where they show the same, else 0.

    Args:
        request: row of `lists` for each slot, `[n]`.
        rank: rank of each slot, 1 is first, `[n]`.
        item: code of the item that was shown there, `[n]`.
        lists: codes of the candidate's lists, `[requests, k]`.

    Returns:
        float64 `[n]`; 0 at ranks beyond k.
    """
    lists = np.asarray(lists)
    place = np.asarray(rank) - 1
    there = place < lists.shape[1]
    same = lists[np.asarray(request), np.where(there, place, 0)]
    return (there & (same == np.asarray(item))).astype(np.float64)


def training_weights(propensity, clip: float | None = None,
                     self_normalise: bool = True) -> np.ndarray:
    """Returns inverse propensity weights of logged rows, for training.

    A row that exploration rarely shows stands for those that it did not get
    to show.

    Args:
        propensity: propensity of each row, in (0, 1], `[n]`. It is NaN where
            unknown, such as for labels that no list brought; such a row gets
            the mean weight.
        clip: row weights above it are cut to it, before normalisation.
        self_normalise: True divides by the mean, so that the loss keeps its
            size.

    Returns:
        float32 `[n]`, with mean 1 if self-normalised.

    Raises:
        ValueError: a propensity or `clip` is out of range.

    Reference:
        Schnabel et al. 2016, "Recommendations as Treatments", arXiv
        1602.05352 (IPS and SNIPS estimators of a loss).
    """
    propensity = np.asarray(propensity, np.float64)
    known = ~np.isnan(propensity)
    _check_range("propensity", propensity[known], 0, 1, open_below=True)
    checks.positive(**checks.given(clip=clip))
    weight = np.ones(len(propensity))
    if known.any():
        weight[known] = np.minimum(
            1 / propensity[known], np.inf if clip is None else clip)
        weight[~known] = weight[known].mean()
        if self_normalise:
            weight /= weight[known].mean()
    return weight.astype(np.float32)


def _estimate(value_of, request, reward, propensity, target, rank, unit,
              clip, level, draws, seed) -> Estimate:
    request, unit, place, reward, propensity, target = _checked_arrays(
        request, reward, propensity, target, rank, unit)
    checks.positive(**checks.given(clip=clip))
    checks.lies_in("(0, 1)", level=level)
    checks.whole(1, draws=draws)
    rng = np.random.default_rng(seed)
    weight = target / propensity
    used = weight if clip is None else np.minimum(weight, clip)
    sums = _sums_by_unit(request, unit, place, reward, weight, used, rng)
    total = sums.sum(axis=0, keepdims=True)
    drawn = _bootstrap(sums, draws, rng)
    value, logged = value_of(total)[0], _logged(total)[0]
    values = value_of(drawn)
    gains = values - _logged(drawn)
    ends = (1 - level) / 2, (1 + level) / 2
    mean_weight = weight.mean()
    requests = int(total[0, 0])
    spread = np.square(used).mean()
    size = requests * used.mean() ** 2 / spread if spread else 0.0
    numbers = np.r_[value, np.quantile(values, ends), logged, value - logged,
                    np.quantile(gains, ends)]
    if not size:
        numbers[[0, 1, 2, 4, 5, 6]] = np.nan
    return Estimate(
        *numbers.tolist(), requests, float(size),
        float((weight > 0).mean()), float(mean_weight), float(weight.max()),
        _warning(size, requests, mean_weight, _mean_weight(drawn).std()))


def _checked_arrays(request, reward, propensity, target, rank, unit):
    """Returns requests, units and ranks as codes from 0, others as float64."""
    rank = np.ones(len(request), np.int64) if rank is None else rank
    unit = request if unit is None else unit
    named = {"request": request, "unit": unit, "rank": rank,
             "reward": reward, "propensity": propensity, "target": target}
    arrays = {name: np.asarray(value) for name, value in named.items()}
    shapes = {name: value.shape for name, value in arrays.items()}
    if len(set(shapes.values())) > 1 or arrays["request"].ndim != 1:
        raise ValueError("The arrays must be of one length. Received: "
                         f"shapes {shapes}.")
    if not len(arrays["request"]):
        raise ValueError("An estimate needs at least one slot that was "
                         "shown. Received: none.")
    for name in ("reward", "propensity", "target"):
        arrays[name] = arrays[name].astype(np.float64)
    _check_range("propensity", arrays["propensity"], 0, 1, open_below=True)
    _check_range("target", arrays["target"], 0, 1)
    _check_range("rank", arrays["rank"], 1, np.inf)
    if not np.isfinite(arrays["reward"]).all():
        raise ValueError("`reward` must be finite. Received: "
                         f"{(~np.isfinite(arrays['reward'])).sum()} others.")
    codes = [np.unique(arrays[name], return_inverse=True)[1]
             for name in ("request", "unit", "rank")]
    return *codes, *(arrays[n] for n in ("reward", "propensity", "target"))


def _check_range(name, values, low, high, open_below=False) -> None:
    wrong = ~((values > low if open_below else values >= low)
              & (values <= high))
    if wrong.any():
        raise ValueError(
            f"`{name}` must lie in {'(' if open_below else '['}{low}, "
            f"{high}]. Received: {name}={values[wrong][0]}, and "
            f"{wrong.sum() - 1} other rows.")


def _sums_by_unit(request, unit, place, reward, weight, used,
                  rng) -> np.ndarray:
    """Returns the sums that estimates need of each unit.

    Many units are put into random groups of equal size, so that the time of
    the bootstrap is bounded: the sums vary as those of units do.

    Returns:
        `[groups, 3 + 3 ranks]`: requests, rewards, row weights before
        clipping; then weighted rewards, row weights and slots by rank.
    """
    units, ranks = unit.max() + 1, place.max() + 1
    groups = min(units, _GROUPS)
    group = (np.arange(units) if units == groups
             else rng.permutation(units) % groups)[unit]
    first = np.unique(request, return_index=True)[1]
    cell = group * ranks + place
    single = [np.bincount(group[first], minlength=groups),
              np.bincount(group, reward, groups),
              np.bincount(group, weight, groups)]
    by_rank = [np.bincount(cell, values, groups * ranks).reshape(
        groups, ranks) for values in (used * reward, used,
                                      np.ones(len(cell)))]
    return np.hstack([np.stack(single, axis=1), *by_rank])


def _bootstrap(sums, draws: int, rng) -> np.ndarray:
    """Returns sums over units drawn with replacement, `[draws, columns]`."""
    units = len(sums)
    tile = max(_CELLS // units, 1)
    found = []
    for start in range(0, draws, tile):
        rows = min(tile, draws - start)
        chosen = rng.integers(0, units, (rows, units))
        chosen += units * np.arange(rows)[:, None]
        count = np.bincount(chosen.ravel(), minlength=rows * units)
        found.append(count.reshape(rows, units) @ sums)
    return np.concatenate(found)


def _by_rank(sums):
    return np.split(sums[:, 3:], 3, axis=1)


def _ips(sums) -> np.ndarray:
    return _by_rank(sums)[0].sum(axis=1) / sums[:, 0]


def _snips(sums) -> np.ndarray:
    weighted, weight, slots = _by_rank(sums)
    mean = np.divide(weighted, weight, out=np.zeros_like(weighted),
                     where=weight > 0)
    return (mean * slots).sum(axis=1) / sums[:, 0]


def _logged(sums) -> np.ndarray:
    return sums[:, 1] / sums[:, 0]


def _mean_weight(sums) -> np.ndarray:
    return sums[:, 2] / _by_rank(sums)[2].sum(axis=1)


def _warning(size, requests, mean, error) -> str:
    found = []
    if size < _NEEDED:
        found.append(
            f"says nothing: only {size:.0f} effective of {requests} requests "
            f"speak for the candidate, {_NEEDED} are needed")
    if abs(mean - 1) > max(_OFF, 3 * error):
        found.append(
            f"the log has not shown {1 - mean:.0%} of what the candidate "
            "would show, and has no value for it" if mean < 1 else
            f"propensities are too low: weights have a mean of {mean:.2f} "
            "and should have 1")
    return "; ".join(found)
