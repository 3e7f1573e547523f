"""MPNet: a BERT whose attention has biases by distance."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrecal.text.architectures.base import (
    Architecture,
    Setting,
    linear,
    normalise,
    scaling,
)
from tfrecal.text.layers.transformer import LayerWeights
from tfrecal.text.tokenizers.padding import PAD_ID, check_padding
from tfrecal.text.tokenizers.wordpiece import WordPiece

_FIRST_PLACE = 2  # place 0 is not used, 1 is for padding


class MPNet(Architecture):
    """Bidirectional, `<s> text </s>`, WordPiece; bias by distance.

    The biases by distance, 32 numbers a head that all layers share, are used
    as they were pretrained: `tuning="full"` trains everything but them.

    Reference:
        Song et al. 2020, MPNet (arXiv 2004.09297).
    """

    kind = "mpnet"
    config_name = "MPNetConfig"
    model_name = "TFMPNetModel"
    settings = (Setting("is_decoder", False), Setting("pad_token_id", PAD_ID))

    @property
    def form(self):
        return super().form._replace(shared=())

    @property
    def longest(self):
        return self.config.max_position_embeddings - _FIRST_PLACE

    @property
    def facts(self):
        count = self.config.relative_attention_num_buckets
        return {**super().facts, "relative_attention_num_buckets": count}

    def tokenizer(self, folder: Path) -> WordPiece:
        made = WordPiece.from_folder(
            folder, self.config.vocab_size, ("<s>", "</s>"), ("MPNet",)
        )
        check_padding(folder, made.vocabulary)
        return made

    def weights_of(self, layer):
        own = layer.attention.attn
        return LayerWeights(
            query=linear(own.q), key=linear(own.k), value=linear(own.v),
            out=linear(own.o), inner=linear(layer.intermediate.dense),
            outer=linear(layer.out.dense),
            norm=scaling(layer.attention.LayerNorm),
            last=scaling(layer.out.LayerNorm),
        )

    def constant(self, base):
        return [base.encoder.relative_attention_bias]

    def embed(self, base, words, packing):
        own = base.embeddings
        hidden = words + tf.gather(
            own.position_embeddings, packing.position + _FIRST_PLACE
        )
        return normalise(own.LayerNorm, hidden)

    def arrange(self, base, packing):
        widths = [shape[2] for shape in packing.shapes]
        # The biases of the widest bucket; other buckets take a corner of it.
        longest = tf.zeros([1, tf.reduce_max(widths), 1])
        by_distance = base.encoder.compute_position_bias(longest)
        return packing._replace(biases=[
            padding + tf.stop_gradient(by_distance[:, :, :width, :width])
            for padding, width in zip(packing.biases, widths)
        ])
