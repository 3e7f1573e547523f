"""distill: trains a smaller encoder to give the vectors of a large one."""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.files import replace_folder
from tfrecal.text import encode_many, student_checkpoint
from tfrecal.text.encoder import TextEncoder
from tfrecal.text.options import check_texts
from tfrecal.text.sentence_folder import find_folder, read_sentence_folder

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

RECORD = "distilled.json"
KINDS = ("bert", "electra")
_HELD_OUT = 0.05


def distill(teacher: TextEncoder, texts: Sequence[str], folder, *,
            layers: int = 2, samples: int = 30_000, epochs: int = 10,
            batch_size: int = 128, learning_rate: float = 1e-3,
            seed: int = 0, progress: bool = False) -> dict:
    """Makes a checkpoint with fewer layers whose vectors are the teacher's.

    The student starts from evenly spaced layers of the teacher (its first
    and last for a student of two). It learns the teacher's vectors of the
    texts and of pieces of texts, which are like queries; no label is read. Its
    vectors can replace the teacher's in a trained model:
    `export_model(..., encoder=student)`. Items keep the vectors that the
    teacher gave them.

    Args:
        teacher: an encoder of the kind BERT or ELECTRA, fine-tuned or not; its
            weights are taken as they are now.
        texts: the texts of the items, and logged queries if there are any.
        folder: the folder of the new checkpoint, which is written whole or not
            at all; `TextEncoder(folder)` reads it.
        layers: number of the student's layers, fewer than the teacher's. 0
            makes a static student, which takes the mean of a vector for each
            token.
        samples: number of texts and pieces that are learned in total.
        epochs: passes over them, with one cosine of the learning rate.
        batch_size: texts of a training step.
        learning_rate: Adam's learning rate.
        seed: seed of pieces and order. The same seed gives the same student
            on the same machine.
        progress: whether Keras shows its bar.

    Returns:
        What `distilled.json` in the folder holds: `layers`, `teacher` (hash
        of its weights), the options, `loss` (one an epoch), and for samples
        that were not learned `cosine` (mean cosine with the teacher's vector)
        and `error` (mean squared distance over the vectors' variance).

    Raises:
        TypeError: `texts` are no strings.
        ValueError: the teacher is of another kind, `layers` is out of range,
            there are no texts, the folder exists, or a number is not
            positive.

    Reference:
        Hinton et al. 2015 (arXiv 1503.02531). Starting from the teacher's
        layers: Sanh et al. 2019, DistilBERT (arXiv 1910.01108). MSE of
        sentence vectors: Reimers and Gurevych 2020 (arXiv 2004.09813).
    """
    texts = list(dict.fromkeys(check_texts(texts)))
    folder = Path(folder)
    _check(teacher, texts, folder, layers, samples=samples, epochs=epochs,
           batch_size=batch_size, learning_rate=learning_rate)
    rng = np.random.default_rng([seed, 14])
    texts = with_pieces(texts, samples, rng)
    targets = encode_many.run(teacher, texts, 4096, progress)
    with replace_folder(folder, private=False) as beside:
        student_checkpoint.begin(teacher, beside, layers)
        student = student_of(teacher, beside, tuning="top_n" if layers
                             else "full", top_n=max(layers, 1))
        history = _fit(student, texts, targets, rng, epochs, batch_size,
                       learning_rate, progress)
        student_checkpoint.save(student, beside)
        record = {
            "format": 1, "teacher": teacher.weights_fingerprint(),
            "layers": layers, "samples": len(texts), "epochs": epochs,
            "batch_size": batch_size, "learning_rate": learning_rate,
            "seed": seed, **history}
        (beside / RECORD).write_text(json.dumps(record, indent=1))
    return record


def student_of(teacher: TextEncoder, folder, **options) -> TextEncoder:
    """Loads the encoder of a folder, with the teacher's `max_length`.

    It pools as its folder says, or else as the teacher does.
    """
    pooling = read_sentence_folder(
        find_folder(str(folder))).pooling or teacher.pooling
    return TextEncoder(str(folder), pooling=pooling,
                       max_length=teacher.max_length, **options)


def _check(teacher, texts, folder, layers, **positive):
    kind = teacher.architecture
    if kind.kind not in KINDS:
        raise ValueError(
            f"A teacher must be one of {', '.join(KINDS)}. Received: a "
            f"checkpoint of the kind {kind.kind}, {teacher.checkpoint!r}.")
    if any(fact != "normalise" for fact in teacher.head.facts):
        raise ValueError(
            "A teacher must have no Dense module. Received: "
            f"{teacher.checkpoint!r}, whose `modules.json` lists one. Choose "
            "another checkpoint.")
    most = kind.config.num_hidden_layers - 1
    if not (isinstance(layers, int) and 0 <= layers <= most):
        raise ValueError(
            f"`layers` must be a whole number from 0 to {most}, below the "
            f"teacher's {most + 1}. Received: layers={layers}.")
    checks.positive(**positive)
    if not any(text.strip() for text in texts):
        raise ValueError("A student learns from texts. Received: none that "
                         "is not empty. Give those of the items.")
    if folder.exists():
        raise ValueError(
            "`folder` must not exist. Received: "
            f"{folder}. Choose another name, or remove it first.")


def _fit(student, texts, targets, rng, epochs, batch_size, learning_rate,
         progress) -> dict:
    """Trains a student; returns its losses and how close it came."""
    order = rng.permutation(len(texts))
    held = order[:int(_HELD_OUT * len(texts))]
    learned = order[len(held):]
    batch_size = min(batch_size, len(learned))
    rows = tf.data.Dataset.from_tensor_slices(learned.astype(np.int32))
    rows = rows.shuffle(len(learned), seed=int(rng.integers(1 << 31)))
    rows = rows.batch(batch_size, drop_remainder=True)
    model = _Distilled(student, texts, targets)
    steps = epochs * (len(learned) // batch_size)
    rate = tf_keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=learning_rate,
        warmup_steps=max(1, steps // 20))
    model.compile(tf_keras.optimizers.Adam(rate, global_clipnorm=1.0))
    told = model.fit(rows, epochs=epochs, verbose=int(progress)).history
    some = held if len(held) else learned
    found = encode_many.run(student, [texts[n] for n in some], 4096, False)
    wanted = targets[some]
    cosine = np.sum(found * wanted, 1) / np.maximum(
        np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1), 1e-9)
    error = float(np.mean(np.sum((found - wanted) ** 2, 1)) / model.spread)
    if progress:
        print(f"mean cosine with the teacher {cosine.mean():.4f}, error "
              f"{error:.4f}", file=sys.stderr)
    return {"loss": [float(loss) for loss in told["loss"]],
            "cosine": float(cosine.mean()), "error": error}


class _Distilled(tf_keras.Model):
    """Trains a student on the distance between its vectors and targets."""

    def __init__(self, student, texts, targets):
        super().__init__()
        self.student = student
        ids, lengths = encode_many.tokenize(student, texts)
        self._ids = tf.constant(ids)
        self._lengths = tf.constant(lengths)
        self._starts = tf.constant(
            np.cumsum(lengths, dtype=np.int32) - lengths)
        self._targets = tf.constant(targets)
        # Mean squared distance of targets from their mean. Divided by it, the
        # error of a student that knows nothing is 1.
        self.spread = max(float(targets.var(axis=0).sum()), 1e-9)
        self._mean = tf_keras.metrics.Mean("loss")
        self.built = True

    @property
    def metrics(self):
        return [self._mean]

    def train_step(self, rows):
        with tf.GradientTape() as tape:
            found = self.student.encode_ids(
                self._ids, tf.gather(self._starts, rows),
                tf.gather(self._lengths, rows), training=True)
            away = tf.math.squared_difference(
                found, tf.gather(self._targets, rows))
            loss = tf.reduce_mean(tf.reduce_sum(away, 1)) / self.spread
        weights = self.student.trainable_weights
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, weights), weights))
        self._mean.update_state(loss)
        return {"loss": self._mean.result()}


def with_pieces(texts: Sequence[str], count: int,
                rng: np.random.Generator) -> list[str]:
    """Returns the texts and pieces of them, each once.

    Two thirds of the pieces are a stretch of words of one text; a third mixes
    a few words of two texts. They are as written or in lower case. Short
    pieces are as likely as long ones.

    Args:
        texts: strings.
        count: how many to return; fewer if the texts do not have so many
            pieces, all of `texts` if they are more.
        rng: makes the choices.
    """
    found = dict.fromkeys(texts)
    words = [part for part in map(_WORD.findall, texts) if part]
    # Texts of a word or two soon have no new pieces.
    for _ in range(4 * count if words else 0):
        if len(found) >= count:
            break
        one = _random_stretch(words[rng.integers(len(words))], rng)
        if rng.random() < 1 / 3:
            one = _random_stretch(one, rng) + _random_stretch(
                _random_stretch(words[rng.integers(len(words))], rng), rng)
            rng.shuffle(one)
        piece = " ".join(one)
        found[piece.lower() if rng.random() < 0.5 else piece] = None
    return list(found)


def _random_stretch(words, rng):
    """Returns a stretch of words; all lengths are equally likely."""
    length = int(rng.integers(1, len(words) + 1))
    first = int(rng.integers(len(words) - length + 1))
    return words[first:first + length]
