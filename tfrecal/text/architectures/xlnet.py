"""XLNet: attention by content and by distance."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from tfrecal.text.architectures.base import (
    Architecture,
    Setting,
    linear,
    scaling,
)
from tfrecal.text.layers.packing import Packing
from tfrecal.text.layers.transformer import Form, LayerWeights, drop_weights
from tfrecal.text.tokenizers.sentencepiece import SentencePiece


class XLNet(Architecture):
    """Bidirectional, `text <sep> <cls>`, SentencePiece; relative places.

    The last token stands for a text. It is a segment of its own, as in
    Hugging Face's tokenizer. TensorFlow computes the gradients of attention,
    so this kind trains more slowly than the others.

    Reference:
        Yang et al. 2019, XLNet (arXiv 1906.08237); Dai et al. 2019,
        Transformer-XL (arXiv 1901.02860), section 3.3.
    """

    kind = "xlnet"
    config_name = "XLNetConfig"
    model_name = "TFXLNetModel"
    settings = (
        Setting("attn_type", "bi"),
        Setting("bi_data", False),
        Setting("clamp_len", -1),
    )
    pooling = "last"
    landmark = "word_embedding.weight"
    # Places are relative and have no limit; this is the pretrained length.
    longest = 512

    @property
    def form(self):
        config = self.config
        width = config.d_model
        return Form(
            hidden=width, inner=config.d_inner, heads=config.n_head,
            activation=config.ff_activation, epsilon=config.layer_norm_eps,
            extra=((width, width), (width,), (width,), (width,)),
        )

    def tokenizer(self, folder: Path) -> SentencePiece:
        return SentencePiece.from_folder(
            folder, self.config.vocab_size, "XLNet", lower_case=False,
            before=(), after=("<sep>", "<cls>"),
        )

    def layers(self, base):
        return list(base.layer)

    def weights_of(self, layer):
        own, width = layer.rel_attn, self.config.d_model
        query, key, value, out, by_place = (
            tf.reshape(kernel, [width, width])
            for kernel in (own.q, own.k, own.v, own.o, own.r))
        content, place, segment = (
            tf.reshape(bias, [width])
            for bias in (own.r_w_bias, own.r_r_bias, own.r_s_bias))
        same, other = tf.unstack(tf.reshape(own.seg_embed, [2, width]))
        none = tf.zeros([width])
        scale = self.config.d_head ** -0.5
        return LayerWeights(
            query=(query, content), key=(key, none), value=(value, none),
            out=(tf.transpose(out), none), inner=linear(layer.ff.layer_1),
            outer=linear(layer.ff.layer_2), norm=scaling(own.layer_norm),
            last=scaling(layer.ff.layer_norm),
            # Biases are relative to the content's, which is in the query.
            extra=(by_place, (place - content) * scale,
                   (segment - content) * scale, other - same),
        )

    def below(self, base):
        return [base.word_embedding]

    def words(self, base):
        return base.word_embedding.weight

    def embed(self, base, words, packing):
        return words

    @staticmethod
    def attention(
        mixed, packing, heads, dropout, seed, by_place, place, segment, other
    ):
        """Attends like `transformer.packed_attention`, with three scores.

        The scores of content, distance and segment are added.

        Args:
            mixed, packing, heads, dropout, seed: see
                `transformer.packed_attention`.
            by_place: `[hidden, hidden]`, makes keys of distances.
            place, segment: `[hidden]`, added to queries for distances, and
                for segments.
            other: `[hidden]`, the key of another segment minus the key of
                the token's own segment.
        """
        width = mixed.shape[-1] // heads // 3
        longest = tf.reduce_max([shape[2] for shape in packing.shapes])
        by_heads = [heads, 1, width]
        place, segment, other = (
            tf.reshape(each, by_heads) for each in (place, segment, other))
        keys = _distance_keys(longest, by_place, heads)
        rows = [shape[0] for shape in packing.shapes]
        lengths = tf.split(packing.length, rows, num=len(rows))
        contexts = []
        for n, (query, key, value) in enumerate(
            zip(*(_buckets(part, packing, heads)
                  for part in tf.split(mixed, 3, 1)))
        ):
            span = packing.shapes[n][2]
            near = keys[:, longest - span: longest + span]
            scores = tf.matmul(query, key, transpose_b=True)
            scores += _shift(
                tf.matmul(query + place, near, transpose_b=True), span)
            scores += _differs(lengths[n], span) * tf.reduce_sum(
                (query + segment) * other, -1, keepdims=True)
            weights = tf.nn.softmax(scores + packing.biases[n])
            weights = drop_weights(weights, dropout, seed, n)
            contexts.append(
                tf.reshape(tf.matmul(weights, value), [-1, width]))
        context = tf.gather(tf.concat(contexts, 0), packing.slot)
        return tf.reshape(context, [-1, heads * width])


def _buckets(values: tf.Tensor, packing: Packing, heads: int) -> list:
    """Lays `[tokens, hidden]` out by bucket, `[rows, heads, width, d]`."""
    width = values.shape[-1] // heads
    pieces = tf.gather(tf.reshape(values, [-1, width]), packing.token_head)
    pieces = tf.split(pieces, packing.sizes, num=len(packing.shapes))
    return [tf.reshape(piece, tf.concat([shape, [width]], 0))
            for piece, shape in zip(pieces, packing.shapes)]


def _distance_keys(longest, by_place, heads):
    """Returns keys of distances from `longest` down, `[heads, _, d]`."""
    hidden = by_place.shape[0]
    distance = tf.cast(tf.range(longest, -longest, -1), tf.float32)
    speed = 10000.0 ** -(tf.range(0, hidden, 2.0) / hidden)
    angle = distance[:, tf.newaxis] * speed
    waves = tf.concat([tf.sin(angle), tf.cos(angle)], 1)
    keys = tf.reshape(
        tf.matmul(waves, by_place), [-1, heads, hidden // heads])
    return tf.transpose(keys, [1, 0, 2])


def _shift(scores, span):
    """Turns scores by distance `[.., span, 2 span]` into scores by key.

    Key j of query i is in column j - i + span, so in the flattened rows it is
    at i (2 span - 1) + j + span.
    """
    rows, heads = tf.unstack(tf.shape(scores)[:2])
    flat = tf.reshape(scores, [rows, heads, 2 * span * span])[:, :, span:]
    step = tf.maximum(2 * span - 1, 0)
    return tf.reshape(flat, [rows, heads, span, step])[..., :span]


def _differs(lengths, span):
    """Returns 1 where one of two tokens is the last, `[rows, 1, span, span]`.
    """
    last = tf.range(span) == lengths[:, tf.newaxis] - 1
    last = last[:, tf.newaxis]
    both = last[..., tf.newaxis] != last[:, :, tf.newaxis]
    return tf.cast(both, tf.float32)
