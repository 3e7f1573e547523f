"""ALBERT: a BERT whose layers share their weights."""

from __future__ import annotations

from pathlib import Path

from tfrecal.text.architectures.base import linear, scaling
from tfrecal.text.architectures.bert import Bert, through
from tfrecal.text.layers.transformer import LayerWeights
from tfrecal.text.tokenizers.sentencepiece import SentencePiece


class Albert(Bert):
    """Bidirectional, `[CLS] text [SEP]`, SentencePiece; shared layers.

    Reference:
        Lan et al. 2019, ALBERT (arXiv 1909.11942).
    """

    kind = "albert"
    config_name = "AlbertConfig"
    model_name = "TFAlbertModel"
    shares_layers = True

    @property
    def facts(self):
        config = self.config
        return {
            "model_type": self.kind, **self.form._asdict(),
            "layers": [config.num_hidden_layers, config.num_hidden_groups,
                       config.inner_group_num],
        }

    def tokenizer(self, folder: Path) -> SentencePiece:
        return SentencePiece.from_folder(
            folder, self.config.vocab_size, "Albert", lower_case=True,
            before=("[CLS]",), after=("[SEP]",),
        )

    def layers(self, base):
        groups = base.encoder.albert_layer_groups
        count, steps = len(groups), self.config.num_hidden_layers
        return [
            layer for n in range(steps)
            for layer in groups[n * count // steps].albert_layers
        ]

    def weights_of(self, layer):
        own = layer.attention
        return LayerWeights(
            query=linear(own.query), key=linear(own.key),
            value=linear(own.value), out=linear(own.dense),
            inner=linear(layer.ffn), outer=linear(layer.ffn_output),
            norm=scaling(own.LayerNorm),
            last=scaling(layer.full_layer_layer_norm),
        )

    def below(self, base):
        return [base.embeddings, base.encoder.embedding_hidden_mapping_in]

    def embed(self, base, words, packing):
        hidden = super().embed(base, words, packing)
        return through(base.encoder.embedding_hidden_mapping_in, hidden)
