"""Arguments of Keras that a model of towers and tasks cannot honour."""
from __future__ import annotations

import numpy as np
import tf_keras

_COMPILE = {
    "loss": "Losses come from the tasks: `TwoTower(..., tasks=[Rating("
            "loss=\"mse\"), Retrieval()])`, or `default_tasks(...)`.",
    "loss_weights": "Each task holds its weight: `Retrieval(weight=0.3)`, or "
                    "`default_tasks(scale, loss_weights={\"retrieval\": "
                    "0.3})`.",
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
    """Raises an error where `compile` got what would be ignored.

    Args:
        given: the arguments that `compile` does not name.
        several_replicas: whether `replicas.fit` trains the model, with a
            loop of its own.
        **honoured: arguments that only that loop ignores.

    Raises:
        ValueError: Keras has this argument, but it cannot be honoured.
        TypeError: Keras has no such argument.
    """
    unknown = [name for name in given if name not in _COMPILE]
    if unknown:
        raise TypeError("`compile` must get arguments that it knows. "
                        f"Received: {', '.join(unknown)}. See "
                        "`help(TwoTower.compile)`.")
    _refuse_set("compile", given, _COMPILE)
    if several_replicas:
        _refuse_set("compile", honoured, dict.fromkeys(
            honoured, "Several replicas run a loop of their own. Leave it "
            "out, or make the model outside of the strategy's scope."))


def refuse_two_rates(*given) -> None:
    """Raises ValueError where an optimizer would override a learning rate.

    Args:
        *given: tuples `(learning rate, optimizer, name of the optimizer)`;
            the first two are None where they were not given.
    """
    for rate, optimizer, name in given:
        if rate is not None and optimizer is not None:
            raise ValueError(
                f"`{name}` brings its own learning rate. Received: {name}="
                f"{optimizer!r} and a learning rate of {rate}. Give one of "
                f"them, for example `{name}=tf_keras.optimizers.Adam({rate})"
                "`.")


def encoder_optimizer(given):
    """Returns the optimizer of a name, or an error that also fits a loss.

    Keras' own `compile` takes the loss as its second argument.
    """
    try:
        return tf_keras.optimizers.get(given)
    except ValueError as error:
        raise ValueError(
            "The second argument of `compile` is the optimizer of the "
            f"encoder. Received: encoder_optimizer={given!r}. "
            f"{_COMPILE['loss']}") from error


def refuse_of_fit(given: dict) -> None:
    """Raises ValueError where `fit` got what would be ignored."""
    _refuse_set("fit", given, _FIT)


def refuse_of_replicas(given: dict) -> None:
    """Raises ValueError for arguments that several replicas ignore."""
    _refuse_set("fit", given, dict.fromkeys(
        given, "Several replicas train without it: call `evaluate` in a "
        "callback, or make the model outside of the strategy's scope."))


def refuse_of_summary(given: dict) -> None:
    """Raises ValueError for arguments of Keras' own table."""
    _refuse_set("summary", given, dict.fromkeys(
        given, "Use `line_length`, `expand_nested` or `show_trainable`."))


def _refuse_set(verb, given, cures) -> None:
    for name, cure in cures.items():
        value = given.get(name)
        if not (value is None or np.isscalar(value) and not value):
            raise ValueError(
                f"`{verb}` cannot honour `{name}` and refuses it. Received: "
                f"{name}={value!r}. {cure}")
