"""Head: what a checkpoint does with a vector after pooling."""
from __future__ import annotations

import hashlib
import json
from typing import Sequence

import numpy as np
import tensorflow as tf
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tfrecal.text.sentence_folder import Dense

_FILE = "model.safetensors"
# PyTorch's `normalize` divides by no less.
_LEAST_NORM = 1e-12


class Head(tf.Module):
    """Applies Dense and Normalize modules of sentence-transformers.

    It is never trained.

    Args:
        steps: `SentenceFolder.after`.
        width: number of elements of a pooled vector.

    Attributes:
        dim: number of elements of a vector in the end.

    Raises:
        ValueError: weights are missing or broken, or of another width.
    """

    def __init__(self, steps: Sequence[Dense | str], width: int):
        super().__init__()
        self.dim = width
        facts, layers = [], []
        for step in steps:
            if step == "normalise":
                layers.append(_normalise)
                facts.append(step)
                continue
            if step.inputs != self.dim:
                raise ValueError(
                    "A Dense module must read the vectors before it. "
                    f"Received: in_features={step.inputs} for vectors of "
                    f"{self.dim} elements in {step.folder}. Fetch the "
                    "checkpoint again.")
            kernel, bias = _weights(step)
            layers.append(_through(kernel, bias, step.activation))
            facts.append([step.activation, hashlib.sha256(
                kernel.tobytes() + bias.tobytes()).hexdigest()])
            self.dim = step.outputs
        # A function, because `tf.Module` would track what a list holds.
        self._layers = lambda: layers
        self._facts = json.dumps(facts)

    @property
    def facts(self) -> list:
        """All that the steps depend on; empty without steps."""
        return json.loads(self._facts)

    def __call__(self, pooled: tf.Tensor) -> tf.Tensor:
        """Turns pooled vectors `[rows, width]` into `[rows, dim]`."""
        for layer in self._layers():
            pooled = layer(pooled)
        return pooled


def _normalise(vectors):
    return vectors / tf.maximum(
        tf.norm(vectors, axis=1, keepdims=True), _LEAST_NORM)


def _through(kernel, bias, activation):
    act = getattr(tf.nn, activation) if activation else tf.identity

    def run(vectors):
        return act(tf.nn.bias_add(tf.matmul(vectors, kernel), bias))

    return run


def _weights(step: Dense) -> tuple[np.ndarray, np.ndarray]:
    """Reads kernel `[inputs, outputs]` and bias `[outputs]`, float32."""
    path = step.folder / _FILE
    if not path.is_file():
        raise ValueError(
            f"A Dense module must come with its `{_FILE}`. Received: no such "
            f"file in {step.folder}. Save the checkpoint again with "
            "sentence-transformers 2.3 or later, where PyTorch is.")
    names = ["linear.weight"] + ["linear.bias"] * step.bias
    try:
        found = load_file(path)
        values = [np.asarray(found[name], np.float32) for name in names]
    except (OSError, ValueError, KeyError, TypeError,
            SafetensorError) as error:
        raise ValueError(
            f"`{_FILE}` of a Dense module must hold {', '.join(names)}. "
            f"Received: {path}: {error}. Fetch it again.") from error
    if not step.bias:
        values.append(np.zeros(step.outputs, np.float32))
    shapes = [(step.outputs, step.inputs), (step.outputs,)]
    if [value.shape for value in values] != shapes or not all(
            np.isfinite(value).all() for value in values):
        raise ValueError(
            f"`{_FILE}` of a Dense module must hold finite weights of the "
            f"shapes {shapes}. Received: "
            f"{[value.shape for value in values]} in {path}. Fetch it again.")
    return np.ascontiguousarray(values[0].T), values[1]
