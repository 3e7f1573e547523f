"""GPT-2: each token sees those before it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrecal.text.architectures.base import (
    Architecture,
    Setting,
    normalise,
    scaling,
)
from tfrecal.text.layers.transformer import Form, LayerWeights
from tfrecal.text.tokenizers.byte_pairs import BytePairs


class GPT2(Architecture):
    """Causal, no special tokens, byte-level BPE (outside of graphs).

    The last token stands for a text, because it has seen all others. An empty
    text has no token, and its vector is zero.

    Reference:
        Radford et al. 2019, Language models are unsupervised multitask
        learners.
    """

    kind = "gpt2"
    config_name = "GPT2Config"
    model_name = "TFGPT2Model"
    settings = (
        Setting("add_cross_attention", False),
        Setting("scale_attn_weights", True),
        Setting("scale_attn_by_inverse_layer_idx", False),
    )
    pooling = "last"
    landmark = "wte.weight"

    @property
    def form(self):
        config = self.config
        return Form(
            hidden=config.n_embd, inner=config.n_inner or 4 * config.n_embd,
            heads=config.n_head, activation=config.activation_function,
            epsilon=config.layer_norm_epsilon, norm_first=True,
            shared=(0, 1),
        )

    def tokenizer(self, folder: Path) -> BytePairs:
        return BytePairs.from_folder(folder, self.config.vocab_size, "GPT2")

    def layers(self, base):
        return list(base.h)

    def weights_of(self, layer):
        kernel, bias = _linear(layer.attn.c_attn)
        query, key, value = zip(tf.split(kernel, 3, 1), tf.split(bias, 3))
        return LayerWeights(
            query=query, key=key, value=value,
            out=_linear(layer.attn.c_proj), inner=_linear(layer.mlp.c_fc),
            outer=_linear(layer.mlp.c_proj), norm=scaling(layer.ln_1),
            last=scaling(layer.ln_2),
        )

    def below(self, base):
        return [base.wte, base.wpe]

    def above(self, base):
        return [base.ln_f]

    def words(self, base):
        return base.wte.embeddings

    def embed(self, base, words, packing):
        return words + tf.gather(base.wpe.embeddings, packing.position)

    def arrange(self, base, packing):
        # Padding comes after all tokens, so no token attends to it.
        return packing._replace(
            biases=[_causal(shape[2]) for shape in packing.shapes])

    def finish(self, base, hidden):
        return normalise(base.ln_f, hidden)


def _linear(layer):
    """Returns kernel and bias of a `TFConv1D`."""
    return layer.weight.value(), tf.reshape(layer.bias, [-1])


def _causal(width):
    """Returns `[1, 1, width, width]`: 0 up to a token's own place, else -1e9.
    """
    place = tf.range(width)
    later = place > place[:, tf.newaxis]
    return tf.where(later, -1e9, 0.0)[tf.newaxis, tf.newaxis]
