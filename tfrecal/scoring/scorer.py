"""PoolScorer: factorised predictions and uncertainty over any pairs.

Users and items are encoded once a round; pairs are inner products.
"""
from __future__ import annotations

import weakref
import zlib
from dataclasses import replace

import numpy as np
import tensorflow as tf

from tfrecal.acquisition import View
from tfrecal.model import probe
from tfrecal.model.protocol import EMBED
from tfrecal.pool.target import Target
from tfrecal.scoring.anchored_heads import head_vectors
from tfrecal.scoring.block import (
    GradedHistories,
    PlacedBlock,
    beside,
    options_of,
    texts_of,
)
from tfrecal.scoring.calibration import Calibration
from tfrecal.scoring.graphs import ModelGraphs, unknown_row
from tfrecal.scoring.labels import Labels, labels_of
from tfrecal.scoring.stream import whole_pool
from tfrecal.scoring.stream.pair_tiles import Tile
from tfrecal.scoring.stream.tile_scores import Products

_LIVE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_LONG = 1 << 20  # elements of a variable


class PoolScorer:
    """Encodes the users and items of a pool and scores pairs of them.

    Args:
        model: any model that offers `model.protocol.Recommends`.
        pool: a `Pool`; histories come from its labelled rows.
        batch_size: ids encoded at a time.
        tile: pairs scored at a time.
        max_history: see `PoolSequence`.

    Raises:
        TypeError: the model lacks what every model must offer.
    """

    def __init__(self, model, pool, *, batch_size: int = 2048,
                 tile: int = 1 << 18, max_history: int = 200):
        self.model = model
        self.pool = pool
        self.batch_size = batch_size
        self.tile = tile
        self.max_history = max_history
        self.graphs = ModelGraphs.of(model)
        self.offers = self.graphs.offers
        self._features = self.offers.features(pool, max_history)
        self._parts: dict[str, dict] = {}
        self._stamp = None
        self._solved = None, None
        self._texts = None, None

    @classmethod
    def of(cls, model, pool) -> "PoolScorer":
        """Returns the one scorer of a model and a pool.

        It is the same one as long as somebody holds it. Callbacks share it,
        so that a round encodes everything once.
        """
        found = _LIVE.get((id(model), id(pool)))
        if found is None:
            found = _LIVE[id(model), id(pool)] = cls(model, pool)
        return found

    def check(self) -> None:
        """Raises where the model cannot score the pool; see `probe`."""
        probe.check(self.model, self.pool)

    def encode(self) -> None:
        """Encodes every user and item, unless nothing changed since."""
        if self._stamp is not None and self._stamp == self._state_now():
            return
        histories = self.pool.histories()
        self._parts = {
            side: self._encode_codes(side, len(ids), histories)
            for side, ids in (("query", self.pool.user_ids),
                              ("candidate", self.pool.item_ids))}
        self._stamp = self._state_now()  # the first call makes the weights

    def _state_now(self):
        """Returns what the vectors depend on; None where that is not known.

        Weights also change without a step: they are restored from a file,
        averaged, or set back to those of the best epoch.
        """
        try:
            variables = self.model.variables
        except (AttributeError, ValueError):  # none, or not all are made
            return None
        metrics = {id(one) for metric in getattr(self.model, "metrics", ())
                   for one in metric.variables}
        stamp = 0
        for variable in variables:
            if id(variable) in metrics:
                continue
            # This worker's own copy: reading the whole may ask the others.
            variable = getattr(variable, "values", [variable])[0]
            if not hasattr(variable, "numpy"):  # a vocabulary of Keras'
                continue
            # A frozen encoder stays as it is, and is long to read.
            if variable.trainable or variable.shape.num_elements() < _LONG:
                stamp = zlib.crc32(
                    np.ascontiguousarray(variable.numpy()), stamp)
        return stamp, self.pool.version

    def _encode_codes(self, side, total, histories) -> dict:
        """Returns the parts of all codes, from 0 (unknown) to `total`."""
        # A model that looks ids up by itself is not asked for code 0.
        first = 0 if self.offers.ids == "codes" else 1
        codes = np.arange(first, total + 1, dtype=np.int32)
        specs = self._features.specs(side)
        found = []
        for start in range(0, len(codes), self.batch_size):
            some = codes[start:start + self.batch_size]
            found.append(self.graphs.parts(
                side, self._features(side, some, histories), specs))
        parts = {name: tf.concat([one[name] for one in found], axis=0)
                 for name in found[0]}
        return unknown_row(parts) if first else parts

    def check_unchanged(self, candidate, most: int = 256) -> None:
        """Checks that candidates are still encoded as they were.

        Args:
            candidate: the retrieval block to compare with, `[items + 1, d]`.
            most: how many items are encoded again.

        Raises:
            ValueError: another vector is found.
        """
        total = min(len(self.pool.item_ids), most)
        parts = self._encode_codes("candidate", total, None)
        again = self.graphs.vectors("candidate", "retrieval", parts).numpy()
        before = candidate[1:total + 1, :again.shape[1]]
        # Batches of other sizes round otherwise.
        if not np.allclose(again[1:], before, rtol=1e-3,
                           atol=1e-5 * np.abs(before).max(initial=1e-9)):
            raise ValueError(
                "A model must stay as it is while it is exported. Received: "
                "other vectors of candidates after the export than before. "
                "Export when training has ended, and nothing else changes "
                "the weights.")

    def parts(self, side: str) -> dict:
        """Returns the parts of all codes, name -> `[ids + 1, ...]`.

        Those of a `TwoTower` are described at `Tower.parts`; a model without
        parts has its vector blocks here.

        Args:
            side: `"query"` (users) or `"candidate"` (items).
        """
        self.encode()
        return self._parts[side]

    def vectors(self, block: str = "rating", salt: int | None = None):
        """Returns the vectors of all users and items by code.

        Args:
            block: `"rating"` or `"retrieval"`.
            salt: names the masks of an MC-dropout pass; None for no dropout.

        Returns:
            `(query [users + 1, dim], candidate [items + 1, dim])` float32.
        """
        query, candidate = self.trained_vectors(block, salt)
        if block == "retrieval" and salt is None:
            linear = self.linear_block(query, candidate)
            if linear is not None:
                return (np.hstack([query, linear.queries]),
                        np.hstack([candidate, linear.candidates]))
        return query, candidate

    def trained_vectors(self, block: str = "rating",
                        salt: int | None = None):
        """Returns vectors without the linear block; see `vectors`."""
        self.encode()
        return self._vectors_of_parts(block, salt)

    def linear_block(self, query=None, candidate=None) -> PlacedBlock | None:
        """Returns the linear block of the model; None where it has none.

        Args:
            query, candidate: the trained retrieval vectors, if they are
                known.
        """
        options = options_of(self.model)
        if options is None or not options.beta:
            return None
        if query is None:
            query, candidate = self.trained_vectors("retrieval")
        texts = self._item_texts()
        key = (self.pool.version, replace(options, beta=1.0),
               texts is not None and zlib.crc32(np.ascontiguousarray(texts)))
        if self._solved[0] != key:
            histories = GradedHistories.of_pool(self.pool)
            solved = histories.solve(options, texts)
            self._solved = key, (
                solved, histories.queries(solved), histories.like)
        return beside(query, candidate, *self._solved[1], options.beta)

    def _item_texts(self):
        """Returns the texts' vectors, encoded anew where weights changed."""
        if self._stamp is None or self._texts[0] != self._stamp:
            self._texts = self._stamp, texts_of(self.model, self.pool)
        return self._texts[1]

    def _vectors_of_parts(self, block, salt):
        query, candidate = (
            self.graphs.vectors(side, block, self._parts[side], salt).numpy()
            for side in EMBED)
        probe.check_finite(EMBED["query"], query[1:])
        probe.check_finite(EMBED["candidate"], candidate[1:])
        probe.check_width(query, candidate, block)
        return query, candidate

    def scores(self, user, item, vectors) -> np.ndarray:
        """Returns inner products of pairs, float32 `[n]`; works in tiles.

        Args:
            user, item: codes, int32 `[n]`.
            vectors: `(query, candidate)`, as of `vectors`.
        """
        query, candidate = vectors
        out = np.empty(len(user), np.float32)
        for start in range(0, len(user), self.tile):
            rows = slice(start, start + self.tile)
            np.einsum("nd,nd->n", query[user[rows]], candidate[item[rows]],
                      out=out[rows])
        return out

    def predict(self, user, item, salt: int | None = None) -> np.ndarray:
        """Returns predicted labels of pairs, float32 `[n]`.

        Args:
            user, item: codes, int32 `[n]`.
            salt: see `vectors`.
        """
        return self.labels()(self.scores(
            user, item, self.vectors("rating", salt)))

    def view(self, user, item, needs=frozenset(), *, calibration=None,
             target=None, prior=None, cost=None, passes: int = 10,
             uncertainty: str = "dropout", seed: int = 0) -> View:
        """Returns what a strategy sees of candidate pairs: what it needs.

        Args:
            user, item: codes of the candidates, int32 `[n]`.
            needs: names of the optional fields, see `acquisition.View`.
            calibration: `(user, item, label)` arrays on which probabilities
                are calibrated; by default the labelled rows.
            target: a `Target`, the pairs to be served; by default the pool.
            prior, cost: float `[n]` or None.
            passes: number of samples.
            uncertainty: `"dropout"` samples MC-dropout passes (Gal &
                Ghahramani 2016), each with one mask for all users and one
                for all items; the text encoder runs once (last-layer
                dropout, arXiv 2105.04651). `"heads"` samples last layers
                (see `head_vectors`); it works without dropout too.
            seed: of the masks or heads.

        Raises:
            ValueError: a sample or a label is needed that the model cannot
                give, or the target does not fit the pool.
        """
        view_of = self.tile_views(
            needs, calibration, target, passes, uncertainty, seed)
        return view_of(Tile(user, item), prior=prior, cost=cost)

    def tile_views(self, needs, calibration, target, passes, uncertainty,
                   seed):
        """Returns a function from a `Tile` to its `View`; see `view`."""
        pool = self.pool
        rows = pool.labelled_rows()
        shared = {
            "user_labelled": np.bincount(
                pool.user[rows], minlength=pool.user_vocabulary.size),
            "item_labelled": np.bincount(
                pool.item[rows], minlength=pool.item_vocabulary.size),
            "user_traffic": pool.user_traffic,
            "item_traffic": pool.item_traffic,
            "labelled_user": pool.user[rows],
            "labelled_item": pool.item[rows],
            "labelled_label": pool.label[rows]}
        mean = samples = classes = None
        if needs & {"mean", "probabilities"}:
            mean = self.products()
        if needs & {"samples", "sample_probabilities"}:
            samples = self.samples(passes, uncertainty, seed)
        if needs & {"probabilities", "sample_probabilities"}:
            classes, shared["levels"] = self._fit_calibration(calibration)
        if "vectors" in needs:
            query, candidate = self.vectors("rating")
            shared["query_vectors"] = query
            shared["candidate_vectors"] = candidate
        if "target" in needs:
            target = Target.from_pool(pool) if target is None else target
            target.check(len(pool.user_ids), len(pool.item_ids))
            shared["target_user"] = target.user
            shared["target_item"] = target.item
            shared["target_weight"] = target.weight
        labels = (None if mean is None and samples is None
                  else self.labels())

        def view(tile, **given):
            fields = {}
            if mean is not None:
                fields["mean"] = labels(self._scores_of_tile(mean, tile))
            if samples is not None:
                fields["samples"] = np.stack([
                    labels(self._scores_of_tile(one, tile)) for one in samples])
            if "probabilities" in needs:
                fields["probabilities"] = classes(fields["mean"])
            if "sample_probabilities" in needs:
                fields["sample_probabilities"] = classes(fields["samples"])
            user, item = tile.pairs()
            return View(user=user, item=item, **shared, **fields, **given)
        return view

    def top(self, strategy, n: int, *, users=None, items=None,
            calibration=None, target=None, prior=None, cost=None,
            passes: int = 10, uncertainty: str = "dropout", seed: int = 0):
        """Chooses the best pairs of the whole pool, one tile at a time.

        It considers every pair that may be asked. In a lazy pool, that is
        every pair of users x items that is not known, asked or excluded. The
        choice is the one that scoring all pairs at once and sorting them
        would give.

        Args:
            strategy: a `Strategy` or its name, where a pair's utility
                depends on nothing but the pair and the labels; or one of
                `whole_pool.SCORES`: `"mean"`, `"variance"` and
                `"upper_bound"` of the predicted label (see
                `tile_scores.Moments`), `"closed_form_variance"` of the
                score under dropout.
            n: how many, >= 1.
            users, items: codes of those that are considered; by default
                all.
            calibration, target, passes, uncertainty, seed: see `view`; the
                seed also breaks ties and draws the noise of `batch`.
            prior, cost: functions of `(user_ids, item_ids)`, as
                `AcquireLabels` takes them and oracles have them.

        Returns:
            `(user [k], item [k], utility [k])`: codes and float64, best
            first; k < n where no more are left.

        Raises:
            ValueError: the strategy looks at all picks together, or
                `Strategy.select` would refuse the arguments.

        Example:
            scorer.top(acquisition.get("bald", batch="power"), 1000)
        """
        return whole_pool.top(
            self, strategy, n, users=users, items=items,
            calibration=calibration, target=target, prior=prior, cost=cost,
            passes=passes, uncertainty=uncertainty, seed=seed)

    def products(self, salt: int | None = None) -> Products:
        """Returns the `Products` of the rating vectors; see `vectors`."""
        return Products(*self.vectors("rating", salt))

    def _scores_of_tile(self, products, tile):
        """Returns `products(tile)`; works through a long list in tiles."""
        if tile.grid or len(tile) <= self.tile:
            return products(tile)
        return self.scores(tile.user, tile.item,
                           (products.query, products.candidate))

    def labels(self) -> Labels:
        """Returns the function from scores to predicted labels.

        Raises:
            ValueError: the model predicts no labels.
        """
        return labels_of(self.model, self.pool.scale)

    def samples(self, passes, uncertainty, seed):
        """Returns the `Products` of each sample of the model.

        Args:
            passes, uncertainty, seed: see `view`.

        Raises:
            ValueError: the model has no dropout, the pool no label for
                heads, or `uncertainty` is unknown.
        """
        if uncertainty == "dropout":
            self.check_dropout()
            self.encode()
            return [Products(*self._vectors_of_parts(
                "rating", 7_000_003 * (seed + 1) + number))
                for number in range(passes)]
        if uncertainty != "heads":
            raise ValueError("`uncertainty` must be 'dropout' or 'heads'. "
                             f"Received: uncertainty={uncertainty!r}.")
        pool = self.pool
        rows = pool.labelled_rows()
        if not len(rows):
            raise ValueError(
                "Heads need at least one labelled pair. Received: none. "
                "Start the pool with some labels.")
        user, item, label = pool.user[rows], pool.item[rows], pool.label[rows]
        query, candidate = self.vectors("rating")
        residual, noise = self.labels().residual(
            self.scores(user, item, (query, candidate)), label)
        return [Products(*vectors) for vectors in head_vectors(
            query, candidate, user, item, residual, noise, passes, seed)]

    def check_dropout(self) -> None:
        """Raises ValueError where the model has no dropout passes."""
        rates = getattr(self.model, "dropout_rates", None)
        if not self.offers.passes or (rates is not None and not any(rates)):
            raise ValueError(
                "MC-dropout samples need a model with dropout. Received: "
                + ("`dropout=0` and `id_dropout=0` in both towers. Create it "
                   "with `dropout=0.1`" if self.offers.passes else
                   f"a {type(self.model).__name__} without dropout passes. "
                   "Offer `query_parts`, `candidate_parts` and "
                   "`combine_parts` (see `tfrecal.model.protocol`)")
                + ", pass uncertainty=\"heads\", or choose a strategy "
                "without samples.")

    def _fit_calibration(self, calibration):
        """Returns a fitted `Calibration` and the levels of its classes."""
        pool = self.pool
        if calibration is None:
            rows = pool.labelled_rows()
            calibration = pool.user[rows], pool.item[rows], pool.label[rows]
        user, item, label = calibration
        classes = Calibration.fit(
            label, self.predict(user, item), self.labels().loss, pool.scale)
        return classes, np.array(classes.levels)
