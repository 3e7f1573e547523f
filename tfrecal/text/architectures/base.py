"""Architecture: describes one kind of transformer to `TextEncoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, NamedTuple, Sequence

import tensorflow as tf

from tfrecal.text.layers.packing import Packing
from tfrecal.text.layers.transformer import Form, LayerWeights, layer_norm
from tfrecal.text.options import TUNINGS


class Setting(NamedTuple):
    """A field of config.json that must have a certain value."""

    name: str
    wanted: object


class Architecture:
    """One kind of transformer: its classes, and where its weights are.

    A subclass names the TF-Transformers classes and says where their weights
    are; `layers.transformer` runs the layers. `base` is the inner Keras layer
    of the loaded model, without pooler and heads.

    Args:
        config: an instance of `config_name`.

    Attributes:
        kind: `model_type` in config.json.
        config_name, model_name: classes of `transformers`.
        settings: further fields of config.json that must have a certain
            value where they are given.
        pooling: the pooling that encoders of this kind are made for.
        shares_layers: whether all layers have the same weights.
        attention: function in place of `transformer.packed_attention`, or
            None.
        landmark: name of a weight that every checkpoint of this kind has.
    """

    kind: str
    config_name: str
    model_name: str
    settings: Sequence[Setting] = (
        Setting("position_embedding_type", "absolute"),
        Setting("is_decoder", False),
    )
    pooling = "mean"
    shares_layers = False
    attention: Callable | None = None
    landmark = "embeddings.word_embeddings.weight"

    def __init__(self, config):
        self.config = config

    @property
    def form(self) -> Form:
        """The `Form` that all layers have in common."""
        config = self.config
        return Form(
            hidden=config.hidden_size,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            activation=config.hidden_act,
            epsilon=config.layer_norm_eps,
        )

    @property
    def longest(self) -> int:
        """Number of tokens of the longest text, special ones included."""
        return self.config.max_position_embeddings

    @property
    def tunings(self) -> tuple[str, ...]:
        """The values of `TextEncoder(tuning=)` that this model allows."""
        if not self.config.num_hidden_layers:  # a static encoder
            return ("frozen", "full")
        return tuple(tuning for tuning in TUNINGS
                     if tuning != "top_n" or not self.shares_layers)

    def check_options(
        self, checkpoint: str, tuning: str, top_n: int, max_length: int
    ) -> None:
        """Raises ValueError for options that this model cannot have."""
        layers = self.config.num_hidden_layers
        if tuning not in self.tunings:
            why = ("all layers share their weights" if layers
                   else "there are no layers")
            raise ValueError(
                f"`tuning` must be one of {', '.join(self.tunings)} where "
                f"{why}. Received: tuning={tuning!r} for {checkpoint!r}, of "
                f"the kind {self.kind}."
            )
        if layers and not (isinstance(top_n, int) and 1 <= top_n <= layers):
            raise ValueError(
                f"`top_n` must be a whole number from 1 to {layers}, the "
                f"layers of {checkpoint!r}. Received: top_n={top_n}."
            )
        most = self.longest
        if not (isinstance(max_length, int) and 2 <= max_length <= most):
            raise ValueError(
                f"`max_length` must be a whole number from 2 to {most}, "
                f"the positions of {checkpoint!r}. Received: "
                f"max_length={max_length}."
            )

    @property
    def facts(self) -> dict:
        """Returns what encodings depend on besides weights and vocabulary."""
        return {"model_type": self.kind, **self.form._asdict()}

    def tokenizer(self, folder: Path):
        """Makes the tokenizer of a checkpoint; see `wordpiece.WordPiece`."""
        raise NotImplementedError

    def layers(self, base) -> list:
        """Returns the Keras layers in the order in which they run."""
        return list(base.encoder.layer)

    def distinct(self, base) -> list:
        """Returns `layers` without repetitions."""
        return list({id(one): one for one in self.layers(base)}.values())

    def order(self, base) -> list[int]:
        """Returns for each of `layers` its number in `distinct`."""
        number = {id(one): n for n, one in enumerate(self.distinct(base))}
        return [number[id(one)] for one in self.layers(base)]

    def weights_of(self, layer) -> LayerWeights:
        """Returns the weights of one of `layers`."""
        raise NotImplementedError

    def below(self, base) -> list:
        """Returns layers and variables below `layers`; `full` trains them."""
        return [base.embeddings]

    def above(self, base) -> list:
        """Returns layers above `layers`, trained with the last of these."""
        return []

    def constant(self, base) -> list:
        """Returns variables that are used and never trained."""
        return []

    def words(self, base) -> tf.Variable:
        """Returns the table of token embeddings, `[vocabulary, width]`."""
        return base.embeddings.weight

    def embed(self, base, words: tf.Tensor, packing: Packing) -> tf.Tensor:
        """Turns rows of `words`, `[tokens, width]`, into hidden states."""
        raise NotImplementedError

    def arrange(self, base, packing: Packing) -> Packing:
        """Adds to a packing what this kind adds to attention scores."""
        return packing

    def finish(self, base, hidden: tf.Tensor) -> tf.Tensor:
        """Applies what comes after the last layer."""
        return hidden


def linear(layer) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns kernel and bias of a Keras `Dense`."""
    return layer.kernel.value(), layer.bias.value()


def scaling(layer) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns gamma and beta of a Keras `LayerNormalization`."""
    return layer.gamma.value(), layer.beta.value()


def normalise(norm, values: tf.Tensor) -> tf.Tensor:
    """Applies a Keras `LayerNormalization` to `[tokens, width]`."""
    return layer_norm(values, *scaling(norm), norm.epsilon)
