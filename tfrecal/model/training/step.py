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
    """The base of `TwoTower`: how its losses become new weights.

    A subclass has `query_tower`, `candidate_tower`, `tasks` and
    `compute_loss`, and says how losses are weighted.
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
            optimizer: of everything but the encoder; by default Adam.
            encoder_optimizer: of the encoder's trained layers; by default
                Adam, with gradients clipped to norm 1.
            learning_rate: of the default; 5e-3.
            encoder_learning_rate: of the default; 5e-5, with `"lora"` and
                `"bitfit"` 3e-4. It is multiplied by the root of
                `encoder_every` (the square root rule of Adam, Malladi et al.
                2022, arXiv 2205.10287).
            encoder_every: batches for one step of the encoder: each distinct
                text is encoded once for all of them, and the encoder's
                gradient is summed exactly (`model.training.gradient_cache`).
                Needs texts in a table, as `from_interactions` makes it.
            adversarial: FGM: each step is also taken against word embeddings
                that are moved by this length to where the loss rises most
                (`model.training.adversarial`). Twice the time; needs an encoder
                with `tuning="full"`, whose embeddings are trained.
            metrics, weighted_metrics: as in Keras, of labels and predicted
                labels, `[B, 1]` each; they need a `Rating` task. The second
                kind is weighted by the batch's `weight`.
            run_eagerly, steps_per_execution: as in Keras; several replicas
                take neither.

        Raises:
            ValueError: an argument that cannot be honoured, or one that
                another one overrides.
            TypeError: an argument that Keras does not have.
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
        # No part of the model: its variables are in no checkpoint.
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
        """`fit`, of what makes its batches."""
        with self.distribute_strategy.scope():
            self._build_optimizers()
        if self.distribute_strategy.num_replicas_in_sync > 1:
            return replicas.fit(self, x, **options)
        if isinstance(x, tf_keras.utils.Sequence):
            options.setdefault("shuffle", False)
        if self.gradient_cache:
            # First of all: others look at the model at the end of an epoch.
            options["callbacks"] = [
                gradient_cache.EncoderSteps(x),
                *tf.nest.flatten(options.get("callbacks") or [])]
        return super()._fit(x, options)

    def _build_optimizers(self):
        """Else the first step makes their variables, and is traced twice."""
        if any(isinstance(part, tf_keras.layers.Layer) and not part.built
               and type(part).build is not tf_keras.layers.Layer.build
               for part in self.submodules):
            return  # a layer of the user's makes its weights in that step
        encoder, slow, fast = self._encoder_variables(), [], []
        for variable in self.trainable_variables:
            group = slow if variable.ref() in encoder else fast
            group.append(variable)
        self.optimizer.build(fast)
        if slow:
            self.encoder_optimizer.build(slow)

    # No control flow of Python's on tensors: half of tracing was AutoGraph.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, inputs: dict) -> dict:
        """One step of both optimizers, or of one (`encoder_every`)."""
        cache = self.gradient_cache
        held = cache.watched() if cache else []
        with tf.GradientTape() as tape:
            tape.watch(held)
            loss = self.compute_loss(inputs, training=True)
            total, number = replicas.part_of_loss(loss, self.losses, inputs)
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
        if number > 1:  # a sum over all, for each figure of each step
            return {}
        return {m.name: m.result() for m in self.metrics}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, inputs: dict) -> dict:
        """Means over the rows so far, and no step."""
        loss = self.compute_loss(inputs, training=False)
        self._total.update_state(
            in_order(loss, *self.losses), replicas.all_rows(inputs))
        return {m.name: m.result() for m in self.metrics}

    def _and_adversarial(self, inputs, variables, gradients):
        """Gradients, and on top those under perturbed word embeddings."""
        tables = [fgm.word_embeddings(encoder, variables, gradients)
                  for encoder in self._encoders()]
        moved = [(table, *fgm.perturb(table, gradient, self.adversarial))
                 for table, gradient in filter(None, tables)]
        if not moved:
            return gradients
        with tf.GradientTape() as tape:
            # Not `compute_loss`: its metrics count a batch once.
            total = in_order(
                self._weighted(self._losses_of(inputs, True)), *self.losses)
        others = tape.gradient(total, variables)
        for table, rows, values in moved:
            fgm.restore(table, rows, values)
        return [fgm.add(*pair) for pair in zip(gradients, others)]

    def _encoders(self) -> list:
        """The towers' encoders, each once."""
        towers = (self.query_tower, self.candidate_tower)
        return list({id(tower.encoder): tower.encoder for tower in towers
                     if tower.encoder}.values())

    def _encoder_variables(self) -> set:
        return {variable.ref() for encoder in self._encoders()
                for variable in encoder.trainable_variables}
