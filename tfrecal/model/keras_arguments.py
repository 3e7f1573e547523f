"""Arguments of Keras that a model of towers and tasks cannot honour."""
from __future__ import annotations

import numpy as np
import tf_keras

_COMPILE = {
    "loss": "Losses come from the tasks: `TwoTower(..., tasks=[Rating("
            "loss=\"mse\"), Retrieval()])`, or `default_tasks(...)`.",
    "loss_weights": "Each task holds its weight: `Retrieval(weight=0.3)`, or "
                    "`default_tasks(scale, weights={\"retrieval\": 0.3})`.",
    "jit_compile": "XLA cannot compile histories of several lengths. Leave "
                   "it out.",
    "pss_evaluation_shards": "Parameter servers are not supported. Leave it "
                             "out; replicas are `tf.distribute."
                             "MirroredStrategy` and `MultiWorker"
                             "MirroredStrategy`."}
_FIT = {
    "validation_split": "A random or last part of a log leaks users' later "
                        "ratings. Split with `tfrecal.splits` and pass "
                        "`validation_data`.",
    "class_weight": "Labels are numbers on a scale. Pass `sample_weight`, or "
                    "a column `weight`."}


def refuse_of_compile(given: dict, several_replicas: bool = False,
                      **honoured) -> None:
    """Raises where `compile` got what would be ignored.

    Args:
        given: the arguments that `compile` does not name.
        several_replicas: whether the model is trained by `replicas.fit`,
            whose loop is its own.
        **honoured: arguments that only that loop ignores.

    Raises:
        ValueError: an argument of Keras' that cannot be honoured.
        TypeError: no argument of Keras'.
    """
    unknown = [name for name in given if name not in _COMPILE]
    if unknown:
        raise TypeError("`compile` must get arguments that it knows. "
                        f"Received: {', '.join(unknown)}. See "
                        "`help(TwoTower.compile)`.")
    _refuse("compile", given, _COMPILE)
    if several_replicas:
        _refuse("compile", honoured, dict.fromkeys(
            honoured, "Several replicas run a loop of their own. Leave it "
            "out, or make the model outside of the strategy's scope."))


def refuse_two_rates(*given) -> None:
    """Raises ValueError where an optimizer would override a learning rate.

    Args:
        *given: `(learning rate, optimizer, name of the optimizer)`, the
            first two None where they were not given.
    """
    for rate, optimizer, name in given:
        if rate is not None and optimizer is not None:
            raise ValueError(
                f"`{name}` brings its own learning rate. Received: {name}="
                f"{optimizer!r} and a learning rate of {rate}. Give one of "
                f"them, for example `{name}=tf_keras.optimizers.Adam({rate})"
                "`.")


def encoder_optimizer(given):
    """The optimizer of a name; Keras' `compile` has the loss in its place."""
    try:
        return tf_keras.optimizers.get(given)
    except ValueError as error:
        raise ValueError(
            "The second argument of `compile` is the optimizer of the "
            f"encoder. Received: encoder_optimizer={given!r}. "
            f"{_COMPILE['loss']}") from error


def refuse_of_fit(given: dict) -> None:
    """Raises ValueError where `fit` got what would be ignored."""
    _refuse("fit", given, _FIT)


def refuse_of_replicas(given: dict) -> None:
    """The same for `fit` on several replicas, which takes a few only."""
    _refuse("fit", given, dict.fromkeys(
        given, "Several replicas train without it: call `evaluate` in a "
        "callback, or make the model outside of the strategy's scope."))


def refuse_of_summary(given: dict) -> None:
    """Raises ValueError for what belongs to Keras' own table."""
    _refuse("summary", given, dict.fromkeys(
        given, "Use `line_length`, `expand_nested` or `show_trainable`."))


def _refuse(verb, given, cures) -> None:
    for name, cure in cures.items():
        value = given.get(name)
        if not (value is None or np.isscalar(value) and not value):
            raise ValueError(
                f"`{verb}` cannot honour `{name}` and refuses it. Received: "
                f"{name}={value!r}. {cure}")
