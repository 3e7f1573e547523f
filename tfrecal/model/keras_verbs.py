"""KerasVerbs: `fit`, `evaluate`, `predict`, `summary` and `repr`."""
from __future__ import annotations

import tensorflow_recommenders as tfrs

from tfrecal.model import inputs as doors
from tfrecal.model import keras_arguments, summary


class KerasVerbs(tfrs.Model):
    """A model whose verbs take what Keras users have, or say what is wrong.

    It is the base of `TwoTower`, which defines what a step computes.
    """

    def fit(self, x=None, y=None, batch_size=None, epochs=1, **options):
        """Trains as Keras' `fit`, on a pool's sequence or a finished log.

        The order of a Sequence's batches is kept: Keras would shuffle them
        by Python's global generator, so that no seed could repeat a run.
        `PoolSequence` shuffles its rows. Several replicas are trained by
        `replicas.fit`, which takes `epochs`, `initial_epoch`, `callbacks`
        and `verbose`.

        Args:
            x: `pool.sequence()`; or a finished log: `Interactions`, a
                DataFrame or a dict of columns with `user_id`, `item_id`
                (strings or whole numbers), `label` and optionally `weight`,
                each pair once, which becomes a pool that is wholly labelled;
                or a batched `tf.data.Dataset` of such dicts, or of (dict,
                label) or (dict, label, weight), which trains no histories
                unless it has a column `history`.
            y, sample_weight: the columns `label` and `weight` of a table.
            batch_size: rows of a training step, for a table; 1,024 by
                default.
            epochs: as in Keras.
            **options: further arguments of Keras; `validation_data` is as
                `evaluate` takes it, or a tuple (x, y) or (x, y, weight).
                `validation_split` and `class_weight` are refused.

        Returns:
            A Keras `History`.

        Raises:
            TypeError: `x` is of another kind.
            ValueError: columns are missing or wrong, or an argument cannot
                be honoured.
            RuntimeError: the model is not compiled.
        """
        self._assert_compile_was_called()
        keras_arguments.refuse_of_fit(options)
        options["epochs"] = epochs
        return self._fit(
            self._training_source(x, y, batch_size, options), options)

    def _fit(self, x, options):
        """Runs Keras' own loop; a subclass may set up more before it."""
        return super().fit(x, **options)

    def _training_source(self, x, y, batch_size, options):
        """Returns `x` for Keras and adapts `options` to it."""
        if options.get("validation_data") is not None:
            data = options["validation_data"]
            data = data if isinstance(data, tuple) else (data,)
            size = options.pop("validation_batch_size", None) or batch_size
            options["validation_data"] = doors.for_evaluation(
                self, *(*data, None, None)[:3], size)
        weight = options.pop("sample_weight", None)
        if doors.makes_batches(x):
            given = {"y": y, "batch_size": batch_size,
                     "sample_weight": weight}
            options.update({k: v for k, v in given.items() if v is not None})
        elif not options.pop("shuffle", True):
            raise ValueError(
                "`fit` on a table shuffles its rows. Received: shuffle=False."
                " A `tf.data.Dataset` keeps an order of yours.")
        return doors.for_training(self, x, y, weight, batch_size)

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto",
                 sample_weight=None, **options):
        """Evaluates as Keras; each figure is a mean over the rows.

        Args:
            x: as `fit` takes it. A table keeps the order of its rows. It
                may hold a pair twice, unknown ids, and the columns
                `history`, `positive` and `log_q`.
            y, batch_size, verbose, sample_weight: see `fit`. In-batch losses
                depend on the batch size.
            **options: further arguments of Keras.

        Returns:
            As in Keras: a number, a list, or a dict for
            `return_dict=True`.

        Raises:
            TypeError, ValueError, RuntimeError: see `fit`.
        """
        self._assert_compile_was_called()
        if doors.makes_batches(x):
            options.update(y=y, batch_size=batch_size,
                           sample_weight=sample_weight)
        if "_use_cached_eval_dataset" not in options:  # `fit` had it ready
            x = doors.for_evaluation(self, x, y, sample_weight, batch_size)
        return super().evaluate(x, verbose=verbose, **options)

    def predict(self, x, batch_size=None, **options):
        """Returns predicted labels, float32 `[n]`, in the order of the rows.

        Args:
            x: as `fit` takes it, without labels. Pairs with unknown ids are
                predicted from the other features. Histories count if there
                is a column `history` (lists of item ids).
            batch_size: rows at a time, for a table; 1,024 by default.
            **options: further arguments of Keras.

        Raises:
            ValueError: the model has no rating task, or columns are wrong.
            TypeError: `x` is of another kind.
        """
        self.check_predicts_labels("`predict`")
        if doors.makes_batches(x):
            options["batch_size"] = batch_size
        return super().predict(
            doors.for_prediction(self, x, batch_size), **options)

    def _assert_compile_was_called(self):
        if not self._is_compiled:
            raise RuntimeError(
                "You must compile your model before `fit` and `evaluate`. "
                f"Received: {self!r}, which has no optimizer; neither a "
                "`.keras` file nor a checkpoint brings one back. Call "
                "`model.compile(learning_rate=5e-3)`; training then goes on "
                "from these weights. `predict` needs no optimizer.")

    def get_compile_config(self):
        """Returns None: users compile a loaded model again."""
        return None

    def compile_from_config(self, config):
        """Does nothing; see `get_compile_config`."""

    def __repr__(self) -> str:
        return summary.one_line(self)

    def summary(self, line_length=None, positions=None, print_fn=None,
                expand_nested=False, show_trainable=False, layer_range=None):
        """Prints towers, encoders and tasks with their numbers of weights.

        Args:
            line_length, print_fn: as in Keras.
            expand_nested: also prints each layer's weights and shapes.
            show_trainable: also prints how many of them are trained.
            positions, layer_range: arguments of Keras' own table, which are
                refused.
        """
        keras_arguments.refuse_of_summary(
            {"positions": positions, "layer_range": layer_range})
        summary.print_summary(self, line_length, print_fn, expand_nested,
                              show_trainable)
