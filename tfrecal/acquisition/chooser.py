"""Chooser: the share of each strategy follows what its labels brought."""
from __future__ import annotations

import warnings

import numpy as np

from tfrecal import checks
from tfrecal.acquisition.mixture import Mixture
from tfrecal.metrics.direction import check_monitor, lower_is_better

_WINDOW = 5  # rounds that a round is compared with
# Standard deviations: of a reward in [0, 1] around what the shares explain,
# and of what a strategy's labels bring before any round.
_SIGMA, _TAU = 0.25, 0.5
_DRAWS = {"thompson": 5, "exp4": 1}  # draws of a strategy in a round
_ROUNDS = 20  # horizon that EXP4.P asks for
_DELTA = 0.1  # its bounds hold with probability 1 - delta


class Chooser(Mixture):
    """A mixture whose shares are learned from validation, round by round.

    A round is judged by the change of a held-out metric per label that came
    since the last judgement, compared with the five rounds before: the
    reward is 1/2 for a round as good as their mean, in [0, 1]. This one
    number has to be divided among all strategies that chose in the round:

    - `"thompson"` takes the reward to be linear in the shares of the labels
      (Gaussian prior and noise) and gives each fifth of the picks to the
      strategy that is best in a draw from the posterior. It tells strategies
      apart by the differences between the shares of the rounds.
    - `"exp4"` gives all picks to one strategy, drawn with the chances of
      EXP4.P with one expert a strategy, and credits each with the
      importance-weighted reward: reward * share had / share expected. Its
      bounds make it careful: in simulations it needs hundreds of rounds
      where Thompson needs thirty.

    Random always makes a share `floor` of the picks, as a baseline and to
    find what all others overlook. Expect insurance against a
    bad strategy, not the best result: rounds are few and judgements noisy.

    Args:
        strategies: names or strategies with distinct names, see `Mixture`;
            `random` is added where it is missing.
        monitor: name of a metric of the validation part in the logs.
        method: `"thompson"` or `"exp4"`.
        floor: least share of random, above 0 and below 1.
        mode: `"max"`, `"min"`, or `"auto"`: min for names with loss, rmse
            or mae, else max.
        seed: of the draws.

    Attributes:
        records: one dict for each judgement: `round`, `value` of the
            metric, `labelled` by strategy, `gain` (per label), `given`
            (shares of the labels judged), `reward`, `chances` and `shares`
            of the next round, and the `reason` in words.

    Reference:
        Hsu and Lin 2015, "Active Learning by Learning", AAAI, algorithm 1;
        Beygelzimer et al. 2011, "Contextual Bandit Algorithms with
        Supervised Learning Guarantees", arXiv 1002.4058, algorithm 1;
        Agrawal and Goyal 2013, "Thompson Sampling for Contextual Bandits
        with Linear Payoffs", arXiv 1209.3352, algorithm 1.
    """

    def __init__(self, strategies: list, monitor: str = "val_ndcg@10",
                 method: str = "thompson", floor: float = 0.1,
                 mode: str = "auto", seed: int = 0, **options):
        super().__init__(strategies, **options)
        names = [strategy.name for strategy in self.strategies]
        if "random" not in names:
            super().__init__([*self.strategies, "random"], **options)
            names.append("random")
        if len(set(names)) < len(names):
            raise ValueError(
                "The strategies of a chooser must have distinct names, under "
                f"which the pool counts their labels. Received: {names}. "
                "Give a subclass a `name` of its own.")
        checks.one_of("method", method, _DRAWS)
        checks.lies_in("(0, 1)", floor=floor)
        check_monitor(monitor)
        self.monitor = monitor
        self.method = method
        self.floor = floor
        self.mode = mode
        self.seed = seed
        self._sign = -1.0 if lower_is_better(monitor, mode) else 1.0
        self._names = names
        self.records: list[dict] = []

    def observe(self, logs, labelled):
        heard = super().observe(logs, labelled)
        value = logs.get(self.monitor)
        if value is None:
            warnings.warn(
                f"`chooser` judges by `{self.monitor}`, which is not there. "
                f"Available: {', '.join(sorted(logs))}.", stacklevel=2)
        elif np.isfinite(value):
            counts = {name: labelled.get(name, 0) for name in self._names}
            self._judge(float(value), counts)
        return {**heard, **{f"share/{name}": float(share) for name, share
                            in zip(self._names, self.shares)}}

    def _judge(self, value, counts):
        record = {"round": len(self.records), "value": value,
                  "labelled": counts, "gain": None, "given": None,
                  "reward": None}
        if self.records:
            last = self.records[-1]
            new = np.array([counts[name] - last["labelled"][name]
                            for name in self._names], np.float64)
            if not new.sum() > 0:
                last["value"] = value  # no label came: no strategy caused this
                return
            gain = self._sign * (value - last["value"]) / new.sum()
            past = [one["gain"] for one in self.records[1:]]
            record.update(gain=float(gain), reward=reward(gain, past),
                          given=(new / new.sum()).tolist())
        self.records.append(record)
        chances, shares = self._draw_shares()
        record.update(
            reason=self._reason(record, shares), chances=chances.tolist(),
            shares=shares.tolist())
        self.shares = shares

    def _draw_shares(self):
        """Draws the next round: chance and share of each strategy."""
        judged = self.records[1:]
        rng = np.random.default_rng([self.seed, len(self.records)])
        size, draws = len(self._names), _DRAWS[self.method]
        if self.method == "thompson":
            mean, covariance = posterior(
                np.array([one["given"] for one in judged]).reshape(-1, size),
                np.array([one["reward"] for one in judged]))
            best = rng.multivariate_normal(
                mean, covariance, (draws + 1000)).argmax(axis=1)
            chances = np.bincount(best[draws:], minlength=size) / 1000
            best = best[:draws]
        else:
            expected = np.array([one["chances"] for one in self.records[:-1]])
            chances = exp4(
                [one["given"] for one in judged],
                [one["reward"] for one in judged],
                self._with_floor(expected.reshape(-1, size)))
            best = rng.choice(size, draws, p=chances)
        return chances, self._with_floor(
            np.bincount(best, minlength=size) / draws)

    def _with_floor(self, shares):
        """Returns shares of all picks: `floor` for random, then `shares`."""
        least = np.array([name == "random" for name in self._names], float)
        return self.floor * least + (1 - self.floor) * shares

    def _reason(self, record, shares):
        if record["reward"] is None:
            judged = "No round is judged yet"
        else:
            before, after = self.records[-2]["value"], record["value"]
            number = sum(record["labelled"].values()) - sum(
                self.records[-2]["labelled"].values())
            place = record["reward"] - 0.5
            judged = (
                f"`{self.monitor}` went from {before:.4g} to {after:.4g} "
                f"with {number:,} labels, " + (
                    "the first round" if len(self.records) == 2 else
                    "as in the rounds before" if abs(place) < 0.05 else
                    "more a label than in the rounds before" if place > 0
                    else "less a label than in the rounds before"))
        moves = ", ".join(
            f"{name} {old:.2f} -> {new:.2f}" for name, old, new
            in zip(self._names, self.shares, shares))
        return f"{judged}: {moves}."

    def state(self):
        return {**super().state(), "records": self.records}

    def restore(self, state):
        super().restore(state)
        self.records = list(state.get("records", []))
        if self.records:
            self.shares = self.records[-1]["shares"]

    def get_config(self):
        config = super().get_config()
        del config["shares"]
        return {**config, "monitor": self.monitor, "method": self.method,
                "floor": self.floor, "mode": self.mode, "seed": self.seed}


def reward(gain: float, past: list[float]) -> float:
    """Returns how good a round was beside those before, in [0, 1].

    Args:
        gain: gain of the metric per label.
        past: the gains of the rounds before; the last five count.
    """
    past = past[-_WINDOW:]
    if not past:
        return 0.5
    spread = max(map(abs, [gain, *past])) or 1.0
    return float(np.clip(0.5 + (gain - np.mean(past)) / spread / 2, 0, 1))


def posterior(given: np.ndarray, rewards: np.ndarray):
    """Returns mean and covariance of what labels of each strategy bring.

    Bayesian linear regression with prior N(1/2, 0.5^2) and noise 0.25.

    Args:
        given: shares of the labels of each round, `[rounds, strategies]`.
        rewards: reward of each round, `[rounds]`.
    """
    size = given.shape[1]
    precision = np.eye(size) / _TAU**2 + given.T @ given / _SIGMA**2
    covariance = np.linalg.inv(precision)
    return covariance @ (0.5 * np.ones(size) / _TAU**2
                         + given.T @ rewards / _SIGMA**2), covariance


def exp4(given: list, rewards: list, expected: np.ndarray) -> np.ndarray:
    """Returns the chances of EXP4.P, with one expert for each strategy.

    Args:
        given: shares of the labels of each round, `[rounds, strategies]`.
        rewards: reward of each round, `[rounds]`.
        expected: expected shares before the draw, `[rounds, strategies]`.
    """
    size = expected.shape[1]
    least = min(1 / size, np.sqrt(np.log(size) / (size * _ROUNDS)))
    bound = np.sqrt(np.log(size / _DELTA) / (size * _ROUNDS))
    logs = np.zeros(size)
    for share, value, chance in zip(np.array(given), rewards, expected):
        logs += least / 2 * (value * share / chance + bound / chance)
    weight = np.exp(logs - logs.max())
    return (1 - size * least) * weight / weight.sum() + least
