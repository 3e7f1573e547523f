"""The best pairs of a whole pool, as Beam transforms."""
from __future__ import annotations

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from tfrecal.acquisition import Strategy, View
from tfrecal.pool.label_head import LabelHead
from tfrecal.pool.pool import UNLABELLED
from tfrecal.scoring.beam.on_vectors import Metrics, OnVectors, beam
from tfrecal.scoring.calibration import Calibration
from tfrecal.scoring.labels import Labels
from tfrecal.scoring.stream.best_pairs import MODES, Best, Keys
from tfrecal.scoring.stream.pair_tiles import CrossPairs, ListedPairs, Tile
from tfrecal.scoring.stream.tile_scores import MOMENTS, Moments, Products
from tfrecal.scoring.stream.whole_pool import SCORE_SHAPE, VIEW_SHAPE, Pointwise

# What a view of workers can hold; see `View`.
_NEEDS = frozenset({"mean", "samples", "probabilities",
                    "sample_probabilities", "levels", "item_traffic"})
PAIRS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()),
                   ("utility", pa.float64())])


def check_strategy(strategy, meta) -> None:
    """Raises ValueError where workers cannot score with a strategy."""
    if meta["labels"] is None:
        raise ValueError(
            "Utilities need a model that predicts labels. Received: vectors "
            "of a model without a rating task.")
    if isinstance(strategy, str):
        needs = {"mean"} if strategy == "mean" else {"samples"}
    else:
        needs = strategy.needs
        _check_pair_by_pair(strategy)
    if needs & {"samples", "sample_probabilities"} and not meta["passes"]:
        raise ValueError(
            "This strategy reads samples of the model. Received: vectors "
            "with passes=0. Write them with `write_vectors(..., passes=10)`.")
    if needs & {"probabilities", "sample_probabilities"} and (
            meta["calibration"] is None):
        raise ValueError(
            "This strategy reads calibrated probabilities. Received: vectors "
            "of a pool without a label. Start the pool with some labels.")


def _check_pair_by_pair(strategy) -> None:
    """Raises ValueError where a strategy looks at more than one pair."""
    problems = [f"it defines `{method}`"
                for method in ("select", "cap", "weigh")
                if getattr(type(strategy), method) is not getattr(
                    Strategy, method)]
    problems += [f"it reads `{need}`" for need in
                 sorted(strategy.needs - _NEEDS)]
    problems += [f"`{name}` is set" for name in (
        "max_per_user", "max_per_item", "quotas", "per_cost", "rateable")
        if getattr(strategy, name)]
    if strategy.batch not in MODES:
        problems.append(f"batch={strategy.batch!r} ranks all pairs")
    if problems:
        raise ValueError(
            "A strategy on Beam must score each pair by its predicted labels "
            f"or its item's traffic. Received: `{strategy.name}`: "
            f"{', '.join(problems)}. Use `PoolScorer.top` or `AcquireLabels` "
            "on one machine, or choose one of "
            f"{', '.join(MOMENTS)}, bald, entropy, margin.")


class Utilities(OnVectors):
    """Turns numbers of groups into the best pairs of each."""

    def __init__(self, vectors, strategy, n, seed):
        super().__init__(vectors)
        self.strategy = strategy
        self.n = n
        self.seed = seed

    def process(self, number):
        meta = self.vectors.meta
        reads = (["rating"] if self._fields_read() & {"mean", "probabilities"}
                 else [])
        if self._fields_read() & {"samples", "sample_probabilities"}:
            reads += [f"pass_{one}" for one in range(meta["passes"])]
        users = self.vectors.users(number, ["user_id", *reads])
        items = self.items(["item_id", "traffic", *reads])
        first = number * meta["group"] + 1
        score = self._score_function(users, items, reads, first)
        mode, temperature = "top", 1.0
        if not isinstance(self.strategy, str):
            mode = self.strategy.batch
            temperature = self.strategy.temperature
        keys = Keys(score, mode, temperature, None, None, self.seed)
        best = Best(self.n, self.seed, None)
        with threadpool_limits(1, "blas"):
            for tile in self._free_pairs(number, first, users).tiles():
                best.offer(tile, *keys(tile))
        if keys.lowest < 0:
            raise ValueError(
                "batch=\"power\" on Beam needs utilities of 0 or more. "
                f"Received: a utility of {keys.lowest:g}. Use "
                "batch=\"softmax\", or `PoolScorer.top`.")
        rows = best.sorted()
        rows["user_id"] = users["user_id"][rows["user"] - first]
        rows["item_id"] = items["item_id"][rows["item"] - 1]
        yield rows

    def _fields_read(self):
        if isinstance(self.strategy, str):
            return {"mean"} if self.strategy == "mean" else {
                "mean", "samples"}
        return self.strategy.needs

    def _free_pairs(self, number, first, users):
        """Returns the group's pairs that may be asked.

        Their tiles are those of `PoolScorer.top`.
        """
        meta, pairs = self.vectors.meta, self.vectors.pairs(number)
        height, width = (SCORE_SHAPE if isinstance(self.strategy, str)
                         else VIEW_SHAPE)
        if not meta["lazy"]:
            free = pairs["state"] == UNLABELLED
            return ListedPairs(pairs["user"][free], pairs["item"][free],
                               height * width)
        taken = pairs["state"] != UNLABELLED
        return CrossPairs(
            np.arange(first, first + len(users["user_id"])),
            np.arange(1, meta["items"] + 1), pairs["user"][taken],
            pairs["item"][taken], (height, width))

    def _score_function(self, users, items, reads, first):
        meta = self.vectors.meta
        head = LabelHead(**meta["labels"])
        labels = Labels(head, head.loss)
        products = [GroupProducts(users[name], items[name], first)
                    for name in reads]
        mean = products[0] if reads[:1] == ["rating"] else None
        samples = products[mean is not None:]
        if isinstance(self.strategy, str):
            return Moments(self.strategy, mean, samples, labels)
        traffic = np.concatenate([[0.0], items["traffic"]])
        return Pointwise(self.strategy, _view_function(
            self.strategy.needs, mean, samples, labels, traffic,
            meta["calibration"]))


class GroupProducts(Products):
    """Inner products with a group's users, whose codes start at `first`.

    Args:
        query, candidate: vectors without a row of the code 0.
        first: code of the first user.
    """

    def __init__(self, query, candidate, first):
        super().__init__(query, np.concatenate(
            [np.zeros_like(candidate[:1]), candidate]) if len(candidate)
            else np.zeros((1, candidate.shape[1]), np.float32))
        self.first = first

    def __call__(self, tile, out=None):
        return super().__call__(Tile(
            tile.user - self.first, tile.item, tile.grid), out)


def _view_function(needs, mean, samples, labels, traffic, calibration):
    """Returns a function from a `Tile` to its `View`."""
    classes = calibration and Calibration(**calibration)
    needs = needs & _NEEDS

    def view(tile):
        fields = {"item_traffic": traffic}
        if mean is not None:
            fields["mean"] = labels(mean(tile))
        if samples:
            fields["samples"] = np.stack(
                [labels(one(tile)) for one in samples])
        if classes and needs & {"probabilities", "sample_probabilities"}:
            fields["levels"] = np.array(classes.levels)
        if "probabilities" in needs:
            fields["probabilities"] = classes(fields["mean"])
        if "sample_probabilities" in needs:
            fields["sample_probabilities"] = classes(fields["samples"])
        user, item = tile.pairs()
        return View(user=user, item=item, **fields)
    return view


class BestPairs(beam.CombineFn):
    """Keeps the first `n` pairs by key, then by the hash of the pair."""

    def __init__(self, n):
        self.n = n

    def create_accumulator(self):
        return None

    def add_input(self, best, rows):
        return self.merge_accumulators([best, rows])

    def merge_accumulators(self, accumulators):
        bests = [best for best in accumulators if best is not None]
        if not bests:
            return None
        rows = {name: np.concatenate([best[name] for best in bests])
                for name in bests[0]}
        order = np.lexsort((rows["tie"], rows["key"]))[::-1][:self.n]
        return {name: column[order] for name, column in rows.items()}

    def extract_output(self, best):
        return best


def pairs_table(rows):
    """Returns chosen pairs as a table of the schema `PAIRS`."""
    Metrics.counter("tfrecal", "pairs").inc(len(rows["utility"]))
    return pa.table([pa.array(rows[name].tolist(), kind)
                     for name, kind in zip(PAIRS.names, PAIRS.types)],
                    schema=PAIRS)
