"""TrainingStep: what `compile` sets and `fit` runs, with two optimizers."""
from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfrecal.model import keras_arguments
from tfrecal.model.exact_sums import in_order
from tfrecal.model.keras_verbs import KerasVerbs
from tfrecal.model.training import adversarial as fgm
from tfrecal.model.training import gradient_cache, replicas
from tfrecal.model.training.gradient_cache import ReplicaCaches


class TrainingStep(KerasVerbs):
    """The base of `TwoTower`: it turns losses into new weights.

    A subclass has `query_tower`, `candidate_tower`, `tasks` and
    `compute_loss`, and defines how losses are weighted.
    """

    def compile(self, optimizer=None, encoder_optimizer=None, *,
                learning_rate: float | None = None,
                encoder_learning_rate: float | None = None,
                encoder_every: int = 1, adversarial: float = 0.0,
                metrics=None, weighted_metrics=None, run_eagerly=None,
                steps_per_execution=None, **refused):
        """Sets the optimizers; the encoder has its own, slower one.

        Losses come from the tasks, so `loss` and `loss_weights` are refused,
        and so are `jit_compile` (XLA cannot compile histories of several
        lengths) and `pss_evaluation_shards`.

        Args:
            optimizer: optimizer of all but the encoder; by default Adam.
            encoder_optimizer: optimizer of the encoder's trained layers; by
                default Adam, with gradients clipped to norm 1.
            learning_rate: rate of the default optimizer; 5e-3.
            encoder_learning_rate: rate of the encoder's default optimizer;
                5e-5, with `"lora"` and `"bitfit"` 3e-4. It is multiplied by
                the root of `encoder_every` (the square root rule of Adam,
                Malladi et al. 2022, arXiv 2205.10287).
            encoder_every: batches for one step of the encoder. Each distinct
                text is encoded once for all of them, and the encoder's
                gradient is summed exactly (`text.gradient_cache`).
                It needs texts in a table, as `from_interactions` makes it.
            adversarial: length by which FGM moves word embeddings to where
                the loss rises most; each step is taken with these too
                (`model.training.adversarial`). It takes twice the time and
                needs an encoder with `tuning="full"`.
            metrics, weighted_metrics: as in Keras, of labels and predicted
                labels, `[B, 1]` each; they need a `Rating` task. The second
                kind is weighted by the batch's `weight`.
            run_eagerly, steps_per_execution: as in Keras; several replicas
                take neither.

        Raises:
            ValueError: an argument cannot be honoured, or another one
                overrides it.
            TypeError: Keras does not have an argument.
        """
        keras_arguments.refuse_of_compile(
            refused, self.distribute_strategy.num_replicas_in_sync > 1,
            run_eagerly=run_eagerly, steps_per_execution=steps_per_execution)
        keras_arguments.refuse_two_rates(
            (learning_rate, optimizer, "optimizer"),
            (encoder_learning_rate, encoder_optimizer, "encoder_optimizer"))
        if metrics or weighted_metrics:
            self.check_predicts_labels("A metric of `compile`")
        fgm.check(adversarial, self._encoders())
        self.adversarial = adversarial
        super().compile(
            optimizer or tf_keras.optimizers.Adam(
                5e-3 if learning_rate is None else learning_rate),
            metrics=metrics, weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly, steps_per_execution=steps_per_execution)
        self._measured = bool(metrics or weighted_metrics)
        if self._measured:  # else the first step makes their variables
            with self.distribute_strategy.scope():
                self.compiled_metrics.build(tf.zeros([1, 1]),
                                            tf.zeros([1, 1]))
        gradient_cache.check(encoder_every, self._encoders(), adversarial)
        if encoder_learning_rate is None:
            few = any(encoder.tuning in ("lora", "bitfit")
                      for encoder in self._encoders())
            encoder_learning_rate = 3e-4 if few else 5e-5
        self.encoder_optimizer = keras_arguments.encoder_optimizer(
            encoder_optimizer or tf_keras.optimizers.Adam(
                encoder_learning_rate * encoder_every ** 0.5,
                global_clipnorm=1.0))
        # It is not in the model: no checkpoint holds its variables.
        self.gradient_cache = None
        tables = [tower.table for tower in (
            self.query_tower, self.candidate_tower)
            if tower.table is not None and tower.encoder.trainable_weights]
        for table in tables:
            table.held = None
        if encoder_every > 1 and tables:
            several = self.distribute_strategy.num_replicas_in_sync > 1
            kind = ReplicaCaches if several else gradient_cache.GradientCache
            self.gradient_cache = kind(
                tables, self.encoder_optimizer, encoder_every)

    def _fit(self, x, options):
        """Runs `fit` on a source that makes its batches."""
        with self.distribute_strategy.scope():
            self._build_optimizers()
        if self.distribute_strategy.num_replicas_in_sync > 1:
            return replicas.fit(self, x, **options)
        if isinstance(x, tf_keras.utils.Sequence):
            options.setdefault("shuffle", False)
        if self.gradient_cache:
            # It comes first: other callbacks read the model at an epoch's end.
            options["callbacks"] = [
                gradient_cache.EncoderSteps(x),
                *tf.nest.flatten(options.get("callbacks") or [])]
        return super()._fit(x, options)

    def _build_optimizers(self):
        """Makes their variables, so that the step is traced only once."""
        if any(isinstance(part, tf_keras.layers.Layer) and not part.built
               and type(part).build is not tf_keras.layers.Layer.build
               for part in self.submodules):
            return  # a user's own layer makes its weights in that step
        encoder, slow, fast = self._encoder_variables(), [], []
        for variable in self.trainable_variables:
            group = slow if variable.ref() in encoder else fast
            group.append(variable)
        self.optimizer.build(fast)
        if slow:
            self.encoder_optimizer.build(slow)

    # It has no Python control flow, and AutoGraph doubles tracing time.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: dict) -> dict:
        """Takes a step of both optimizers, or of one (`encoder_every`)."""
        cache = self.gradient_cache
        held = cache.watched() if cache else []
        with tf.GradientTape() as tape:
            tape.watch(held)
            loss = self.compute_loss(inputs, training=True)
            total, number = replicas.share_of_loss(loss, self.losses, inputs)
        variables = self.trainable_variables
        gradients = tape.gradient(total, [*held, *variables])
        of_held, gradients = gradients[:len(held)], gradients[len(held):]
        if self.adversarial:
            gradients = self._and_adversarial(inputs, variables, gradients)
        encoder = self._encoder_variables()
        slow, fast = [], []
        for gradient, variable in zip(gradients, variables):
            if gradient is not None:
                group = slow if variable.ref() in encoder else fast
                group.append((gradient, variable))
        self._total.update_state(number * total, replicas.all_rows(inputs))
        self.optimizer.apply_gradients(fast)
        if cache:
            given = {variable.ref(): gradient for gradient, variable in slow}
            cache.take(of_held, [given.get(weight.ref())
                                 for weight in cache.weights])
        elif slow:
            self.encoder_optimizer.apply_gradients(slow)
        if number > 1:  # each figure would be summed over replicas
            return {}
        return {m.name: m.result() for m in self.metrics}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, inputs: dict) -> dict:
        """Returns means over the rows so far; takes no step."""
        loss = self.compute_loss(inputs, training=False)
        self._total.update_state(
            in_order(loss, *self.losses), replicas.all_rows(inputs))
        return {m.name: m.result() for m in self.metrics}

    def _and_adversarial(self, inputs, variables, gradients):
        """Adds the gradients under perturbed word embeddings."""
        tables = [fgm.word_embeddings(encoder, variables, gradients)
                  for encoder in self._encoders()]
        moved = [(table, *fgm.perturb(table, gradient, self.adversarial))
                 for table, gradient in filter(None, tables)]
        if not moved:
            return gradients
        with tf.GradientTape() as tape:
            # Not `compute_loss`, which would count the batch twice.
            total = in_order(
                self._weighted(self._losses_of(inputs, True)), *self.losses)
        others = tape.gradient(total, variables)
        for table, rows, values in moved:
            fgm.restore(table, rows, values)
        return [fgm.add(*pair) for pair in zip(gradients, others)]

    def _encoders(self) -> list:
        """Returns the towers' encoders, each once."""
        towers = (self.query_tower, self.candidate_tower)
        return list({id(tower.encoder): tower.encoder for tower in towers
                     if tower.encoder}.values())

    def _encoder_variables(self) -> set:
        return {variable.ref() for encoder in self._encoders()
                for variable in encoder.trainable_variables}
