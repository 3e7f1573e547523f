"""Do R-Drop or mixout help where labels are few?

MovieLens-100K with a twentieth of the training labels, where regularisation
should tell; a fifth of the items is held out with all rows and ranked among
themselves by their texts, as in `quality.py`. Each arm is paired by seed with
the same fit without it:

- mixout (Lee et al. 2020, arXiv 1909.11299, sec. 3): in each step of the
  encoder a share p of its trained kernels' elements is that of the
  pretrained ones; `tuning="top_n"`;
- R-Drop (Liang et al. 2021, arXiv 2106.14448, eq. 4): two passes with
  dropout of their own, whose predicted labels and in-batch softmax should
  agree; frozen encoder, the towers' dropout 0.1.

Neither is an option of the package: an option must first be seen to help. FGM,
which is one, is measured in the part `cold` of `tuning.py`.

    python benchmarks/regularisation.py [--quick] [--arms mixout r_drop]
        [--seeds 0 1 2 3 4] [--keep FOLDER]
"""
from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from helpers.protocols import cold_ndcg  # noqa: E402
from helpers.results import kept, show  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    EvaluateRetrieval,
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
    splits,
)
from tfrecal.callbacks.learning_rate import FinalCosine  # noqa: E402
from tfrecal.runs.config import RunConfig  # noqa: E402

import tensorflow as tf  # noqa: E402  isort: skip
import tf_keras  # noqa: E402  isort: skip

SHARE = 0.05
MIXOUT = 0.5  # p; the paper finds 0.7 to 0.9 best of BERT-large
R_DROP = 1.0  # alpha


class Mixout:
    """An encoder's architecture whose trained kernels are mixed.

    Args:
        kind: the architecture.
        encoder: whose kernels, as they are now, are the pretrained ones.
        optimizer: its steps decide the masks: those of one step are alike.
        rate: share of elements that are pretrained.
    """

    def __init__(self, kind, encoder, optimizer, rate: float):
        self._kind, self._rate, self._optimizer = kind, rate, optimizer
        self._old = {id(layer): kind.weights_of(layer)
                     for layer in kind.layers(encoder.base)[
                         encoder.layers_below:]}
        self._number = {key: n for n, key in enumerate(self._old)}
        self.acts = False

    def __getattr__(self, name):
        return getattr(self._kind, name)

    def weights_of(self, layer):
        """The weights of a layer, mixed while `acts`."""
        now = self._kind.weights_of(layer)
        if not self.acts or id(layer) not in self._old:
            return now
        old, found = self._old[id(layer)], {}
        for place, name in enumerate((
                "query", "key", "value", "out", "inner", "outer")):
            (kernel, bias), (before, _) = getattr(now, name), getattr(
                old, name)
            seed = tf.stack([
                tf.cast(self._optimizer.iterations, tf.int64),
                tf.constant(6 * self._number[id(layer)] + place, tf.int64)])
            swap = tf.random.stateless_uniform(
                kernel.shape, seed) < self._rate
            mixed = tf.where(swap, before, kernel)
            # As dropout does: the mean over masks is the kernel itself.
            mixed = (mixed - self._rate * before) / (1 - self._rate)
            found[name] = (mixed, bias)
        return now._replace(**found)


class RDrop(TwoTower):
    """Two passes with dropout of their own that should agree."""

    def compute_loss(self, inputs, training: bool = False):
        if not training:
            return super().compute_loss(inputs, training)
        # Past Keras, which would track them.
        self.__dict__["blocks"] = []
        loss = (super().compute_loss(inputs, training)
                + super().compute_loss(inputs, training)) / 2
        (query, candidate), (again, other) = self.blocks
        labels = [tf.reduce_sum(q["rating"] * c["rating"], axis=1)
                  for q, c in ((query, candidate), (again, other))]
        one, two = (tf.nn.log_softmax(tf.matmul(
            q["retrieval"], c["retrieval"], transpose_b=True))
            for q, c in ((query, candidate), (again, other)))
        agree = tf.reduce_mean(
            tf.reduce_sum((tf.exp(one) - tf.exp(two)) * (one - two), 1)) / 2
        return loss + R_DROP * (
            tf.reduce_mean((labels[0] - labels[1]) ** 2) + 0.3 * agree)

    def embed_queries(self, features, training: bool = False):
        found = super().embed_queries(features, training)
        self.__dict__["query"] = found
        return found

    def embed_candidates(self, features, training: bool = False):
        found = super().embed_candidates(features, training)
        if training:
            self.blocks.append((self.query, found))
        return found


ARMS = {"mixout": dict(tuning="top_n", mixout=MIXOUT),
        "r_drop": dict(tuning="frozen", kind=RDrop)}


def fit(split, seed: int, epochs: int, tuning: str, mixout: float = 0.0,
        kind=TwoTower) -> dict:
    """Metrics of one fit, and its seconds."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    pool = Pool.from_interactions(split.train, initial=SHARE, seed=seed)
    rows = pool.labelled_rows()
    encoder = TextEncoder("minilm", tuning=tuning)
    model = kind.from_interactions(
        split.train, mean=float(pool.label[rows].mean()), seed=seed,
        encoder=encoder, dropout=0.1 if tuning == "frozen" else 0.0)
    model.compile(encoder_every=20)
    calls = []
    if mixout:
        mixed = Mixout(encoder.architecture, encoder,
                       model.encoder_optimizer, mixout)
        encoder.architecture = mixed
        # Traced in training only: the graphs of evaluation are others.
        calls.append(tf_keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: setattr(mixed, "acts", True),
            on_train_end=lambda logs: setattr(mixed, "acts", False)))
    config = RunConfig(final_epochs=epochs)
    started = time.perf_counter()
    model.fit(
        pool.sequence(seed=seed), epochs=epochs, verbose=0,
        callbacks=[*calls, FinalCosine(
            config.learning_rate, epochs, config.final_epochs)])
    seconds = time.perf_counter() - started
    found = EvaluateRetrieval(pool, split.test).evaluate(model)
    return {"ndcg": cold_ndcg(model, pool, split.test),
            "rmse": float(found["rmse"]), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="one seed, one epoch, R-Drop")
    parser.add_argument("--arms", nargs="+", default=list(ARMS),
                        choices=list(ARMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--keep", help="folder for the result of each fit")
    options = parser.parse_args()
    seeds = options.seeds[:1] if options.quick else options.seeds
    epochs = 1 if options.quick else options.epochs
    arms = options.arms[-1:] if options.quick else options.arms
    data = datasets.load("ml-100k")
    found = {}
    for seed in seeds:
        split = splits.cold_items(data, 0.2, seed=seed)
        for arm in arms:
            plain = {"tuning": ARMS[arm]["tuning"]}
            for name, how in ((f"{arm}: without", plain),
                              (f"{arm}: with", ARMS[arm])):
                found.setdefault(name, []).append(kept(
                    options.keep, f"{name}-{seed}-{epochs}",
                    lambda: fit(split, seed, epochs, **how)))

    print(f"MovieLens-100K, {SHARE:.0%} of the labels, {epochs} epochs, "
          f"seeds {seeds}; mean (standard deviation)")
    show("items without a row", found, {
        "NDCG@10 among them": "ndcg", "RMSE": "rmse", "s a fit": "seconds"})
    gains = {}
    for arm in arms:
        for title, key in (("NDCG@10", "ndcg"), ("RMSE", "rmse")):
            gains[f"{arm} {key}"] = gain = metrics.t_interval([
                b[key] - a[key] for a, b in zip(
                    found[f"{arm}: without"], found[f"{arm}: with"])])
            print("{}: {} {:+.4f} [{:+.4f}, {:+.4f}]".format(
                arm, title, *gain))
    print(json.dumps({"gains": gains, "seeds": seeds}))


if __name__ == "__main__":
    main()
