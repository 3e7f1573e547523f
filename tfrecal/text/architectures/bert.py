"""BERT, and ELECTRA, which has its layers."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrecal.text.architectures.base import (
    Architecture,
    linear,
    normalise,
    scaling,
)
from tfrecal.text.layers.transformer import LayerWeights
from tfrecal.text.tokenizers.wordpiece import WordPiece


class Bert(Architecture):
    """Bidirectional, `[CLS] text [SEP]`, WordPiece.

    Reference:
        Devlin et al. 2019, BERT (arXiv 1810.04805).
    """

    kind = "bert"
    config_name = "BertConfig"
    model_name = "TFBertModel"

    @property
    def facts(self):
        # These facts must stay: encodings on disk and runs are known by them.
        names = ("hidden_act", "layer_norm_eps", "num_attention_heads")
        return {name: getattr(self.config, name) for name in names}

    def tokenizer(self, folder: Path) -> WordPiece:
        return WordPiece.from_folder(folder, self.config.vocab_size)

    def weights_of(self, layer):
        own, out = layer.attention.self_attention, layer.attention.dense_output
        last = layer.bert_output
        return LayerWeights(
            query=linear(own.query), key=linear(own.key),
            value=linear(own.value), out=linear(out.dense),
            inner=linear(layer.intermediate.dense), outer=linear(last.dense),
            norm=scaling(out.LayerNorm), last=scaling(last.LayerNorm),
        )

    def embed(self, base, words, packing):
        own = base.embeddings
        kind = tf.gather(own.token_type_embeddings, 0)
        place = self._places(own.position_embeddings) + kind
        hidden = words + tf.gather(place, packing.position)
        return normalise(own.LayerNorm, hidden)

    def _places(self, table):
        """Returns the vectors of positions 0, 1, ..."""
        return table


class Electra(Bert):
    """BERT, with embeddings that may be narrower than the layers.

    Reference:
        Clark et al. 2020, ELECTRA (arXiv 2003.10555).
    """

    kind = "electra"
    config_name = "ElectraConfig"
    model_name = "TFElectraModel"
    facts = Architecture.facts

    def below(self, base):
        project = getattr(base, "embeddings_project", None)
        return [base.embeddings] + ([project] if project else [])

    def embed(self, base, words, packing):
        hidden = super().embed(base, words, packing)
        project = getattr(base, "embeddings_project", None)
        return through(project, hidden) if project else hidden


def through(dense, values: tf.Tensor) -> tf.Tensor:
    """Applies a Keras `Dense` without activation to `[tokens, width]`."""
    kernel, bias = linear(dense)
    return tf.nn.bias_add(tf.matmul(values, kernel), bias)
