"""DistilBERT: a BERT without token types, under other names."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrecal.text.architectures.base import (
    Architecture,
    linear,
    normalise,
    scaling,
)
from tfrecal.text.layers.transformer import Form, LayerWeights
from tfrecal.text.tokenizers.wordpiece import WordPiece


class DistilBert(Architecture):
    """Bidirectional, `[CLS] text [SEP]`, WordPiece.

    Reference:
        Sanh et al. 2019, DistilBERT (arXiv 1910.01108).
    """

    kind = "distilbert"
    config_name = "DistilBertConfig"
    model_name = "TFDistilBertModel"

    @property
    def form(self):
        config = self.config
        return Form(
            hidden=config.dim, inner=config.hidden_dim, heads=config.n_heads,
            activation=config.activation, epsilon=1e-12,
        )

    def tokenizer(self, folder: Path) -> WordPiece:
        return WordPiece.from_folder(folder, self.config.vocab_size)

    def layers(self, base):
        return list(base.transformer.layer)

    def weights_of(self, layer):
        own = layer.attention
        return LayerWeights(
            query=linear(own.q_lin), key=linear(own.k_lin),
            value=linear(own.v_lin), out=linear(own.out_lin),
            inner=linear(layer.ffn.lin1), outer=linear(layer.ffn.lin2),
            norm=scaling(layer.sa_layer_norm),
            last=scaling(layer.output_layer_norm),
        )

    def embed(self, base, words, packing):
        own = base.embeddings
        hidden = words + tf.gather(own.position_embeddings, packing.position)
        return normalise(own.LayerNorm, hidden)
