"""TextEncoder: makes vectors of texts with a pretrained model.

TF-Transformers holds the weights (`checkpoints`, `architectures`); the layers
run without padding (`layers.packing`, `layers.transformer`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.text import encode_many
from tfrecal.text.checkpoints import load_base, read_architecture
from tfrecal.text.encode_many import EncodingGraph
from tfrecal.text.head import Head
from tfrecal.text.layers import lora, packing, transformer
from tfrecal.text.options import PRECISIONS, TUNINGS
from tfrecal.text.precision import check_policy
from tfrecal.text.prepared_texts import prepared
from tfrecal.text.sentence_folder import find_folder, read_sentence_folder
from tfrecal.text.served_encoder import ServedEncoder
from tfrecal.text.table import TextTable
from tfrecal.text.tokenizers import client_tokenizer

POOLINGS = ("mean", "cls", "last")


@tf_keras.saving.register_keras_serializable(package="tfrecal")
class TextEncoder(tf_keras.layers.Layer):
    """A pretrained transformer as a Keras layer from strings to vectors.

    Each distinct text of a batch is encoded once, and padding costs nothing.
    For a fixed catalogue use `table`, which also runs the layers that are not
    trained only once.

    A checkpoint of BERT, ELECTRA, DistilBERT, MPNet, ALBERT or XLNet has its
    texts tokenised in the graph. Texts for RoBERTa or GPT-2 must be tokenised
    outside of graphs: eager calls, `encode` and `table` do so, but a
    `tf.function` and an export take ids. XLM-RoBERTa and other kinds are
    refused.

    The modules of a sentence-transformers folder are followed: its pooling,
    Normalize and Dense modules, lower-casing, `max_seq_length` and default
    prompt, which stands before each text. A folder that asks for anything
    else is refused. A Dense module is not trained.

    Args:
        checkpoint: `"minilm"`, a local folder, or a Hugging Face name.
        pooling: how a text's vector is made of its tokens' vectors: `"mean"`
            of all, `"cls"` for the first, or `"last"`. None takes the
            pooling that sentence-transformers trained the checkpoint with,
            else the one of its kind.
        tuning: what is trained. `"frozen"`: nothing. `"top_n"`: the last
            `top_n` layers (not for ALBERT, whose layers share their
            weights). `"full"`: everything except MPNet's biases by
            distance. `"lora"`: updates of low rank to all layers
            (`lora.LoRA`). `"bitfit"`: the biases of all layers, those of
            layer normalisation included. `trainable_weights` are exactly
            these. An encoder without layers (a static student of
            `text.distill`) allows only `"frozen"` and `"full"`.
        top_n: number of layers that `tuning="top_n"` trains.
        max_length: tokens of a text that are read, special ones included;
            the attribute is the checkpoint's own `max_seq_length` where that
            is lower.
        dropout: dropout rate inside the trained layers; 0 makes training
            deterministic.
        rank, alpha, projections: options of `tuning="lora"`, see
            `lora.LoRA`.
        precision: `"bfloat16"` rounds the factors and the results of
            products with weights; weights and all else stay float32. It is
            faster where the processor has `avx512_bf16` or `amx_bf16`
            (`tfrecal doctor` shows it), and far slower elsewhere.

    Example:
        encoder = TextEncoder("minilm", tuning="top_n", top_n=1)
        vectors = encoder(tf.constant(["Toy Story", "Heat"]))

    Reference:
        Devlin et al. 2019, BERT (arXiv 1810.04805); mean pooling: Reimers and
        Gurevych 2019 (arXiv 1908.10084); BitFit: Ben Zaken et al. 2021
        (arXiv 2106.10199).
    """

    def __init__(
        self,
        checkpoint: str = "minilm",
        pooling: str | None = None,
        tuning: str = "frozen",
        top_n: int = 1,
        max_length: int = 64,
        dropout: float = 0.0,
        precision: str = "float32",
        rank: int = 8,
        alpha: float = 16.0,
        projections: Sequence[str] = ("query", "value"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_policy(self)
        if pooling is not None:
            checks.one_of("pooling", pooling, POOLINGS)
        checks.one_of("tuning", tuning, TUNINGS)
        checks.one_of("precision", precision, PRECISIONS)
        checks.lies_in("[0, 1)", dropout=dropout)
        self.checkpoint = str(checkpoint)
        self.tuning = tuning
        self.top_n = top_n
        self.max_length = max_length
        self.dropout = dropout
        self.precision = precision
        self.rank, self.alpha = rank, alpha
        self.projections = projections
        lora.check(rank, alpha, projections)
        sentences = read_sentence_folder(
            find_folder(self.checkpoint), pooling)
        folder = sentences.transformer
        kind = self.architecture = read_architecture(folder)
        self.pooling = sentences.pooling or kind.pooling
        kind.check_options(self.checkpoint, tuning, top_n, max_length)
        if sentences.max_length is not None:
            self.max_length = min(max_length, sentences.max_length)
        self.head = Head(sentences.after, kind.form.hidden)
        # Elements of a vector, and of a token's hidden state.
        self.dim, self.hidden = self.head.dim, kind.form.hidden
        self._bounds = packing.bucket_bounds(self.max_length)
        # Functions, because Keras would track and export what lists hold.
        self._steps = [
            transformer.make_layer(
                kind.form, len(self._bounds), rate, precision, kind.attention
            )
            for rate in (0.0, dropout)
        ].__getitem__
        self._tokenizer = prepared(kind.tokenizer(folder), sentences)
        # The Keras layer of TF-Transformers, without pooler and heads.
        self.base = load_base(folder, kind)
        layers = kind.layers(self.base)
        self._layers_run = lambda: layers
        # Layers from this number on are trained; "full" also trains what is
        # below the layers.
        self._lowest = {
            "frozen": len(layers), "top_n": len(layers) - top_n
        }.get(tuning, 0)
        self._place = kind.order(self.base).__getitem__
        self.lora = None
        if tuning == "lora":
            self.lora = lora.LoRA(
                self.distinct_weights(), rank, alpha, tuple(projections))
        # A bound method, because Keras does not track it.
        self.bulk_step = EncodingGraph(self).step
        self.fingerprint = self.weights_fingerprint()
        # A checkpoint holds only this list of the encoder.
        self.trained = self.trainable_weights

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        if save_type == "checkpoint":
            children = {name: child for name, child in children.items()
                        if name not in ("base", "lora", "head")}
        return children

    @property
    def trainable_weights(self):
        # The sublayers' own flags cannot be used: freezing and unfreezing a
        # tower sets those of all layers.
        if not self.trainable or self.tuning == "frozen":
            return []
        if self.lora is not None:
            return self.lora.weights
        kind, base = self.architecture, self.base
        trained = self._layers_run()[self._lowest:] + kind.above(base)
        if self.tuning == "full":
            trained = kind.below(base) + trained
        distinct = {id(layer): layer for layer in trained}.values()
        weights = [weight for layer in distinct for weight in layer.weights]
        if self.tuning == "bitfit":
            # Biases are found by name, because GPT-2's have shape [1, n] and
            # those of XLNet's attention [heads, n].
            weights = [w for w in weights
                       if w.name.endswith(("bias:0", "beta:0"))]
        return weights

    @property
    def non_trainable_weights(self):
        trained = {weight.ref() for weight in self.trainable_weights}
        return [w for w in self._all_weights() if w.ref() not in trained]

    def _all_weights(self):
        return self.base.weights + (self.lora.weights if self.lora else [])

    @property
    def layers_below(self) -> int:
        """Number of the lowest layers, whose output training cannot change."""
        return self._lowest

    @property
    def summary(self) -> str:
        """One line that says how much is trained."""
        total, trained = (sum(w.shape.num_elements() for w in weights)
                          for weights in (self._all_weights(),
                                          self.trainable_weights))
        return (f"encoder {self.checkpoint}, {self.tuning}: {trained:,} of "
                f"{total:,} weights are trained")

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Turns strings `[n]` into int32 ids `[n, None]`, special ones too.

        Raises:
            ValueError: it is called in a graph, for RoBERTa or GPT-2.
        """
        return self._tokenizer.tokenize(
            tf.convert_to_tensor(texts, tf.string), self.max_length
        )

    def call(self, texts, training: bool = False) -> tf.Tensor:
        """Computes vectors of texts.

        Args:
            texts: strings of any shape, or ids as `tokenize` gives them. In
                a graph, RoBERTa and GPT-2 take only ids.
            training: whether dropout acts.

        Returns:
            float32 with the shape of `texts` and one more axis of length
            `dim`; zeros for a text without any token, which only GPT-2 has.
        """
        if isinstance(texts, tf.RaggedTensor):
            return self._encode_tokens(texts, training)
        texts = tf.convert_to_tensor(texts, tf.string)
        distinct, place = tf.unique(tf.reshape(texts, [-1]))
        vectors = self._encode_tokens(self.tokenize(distinct), training)
        shape = tf.concat([tf.shape(texts), [self.dim]], 0)
        vectors = tf.reshape(tf.gather(vectors, place), shape)
        vectors.set_shape(texts.shape + [self.dim])
        return vectors

    def _encode_tokens(self, tokens, training):
        lengths = tf.minimum(
            tf.cast(tokens.row_lengths(), tf.int32), self.max_length
        )
        return self.encode_ids(
            tokens.flat_values, tokens.row_starts(), lengths, training
        )

    def encode_ids(self, ids, starts, lengths, training: bool = False):
        """Computes vectors of rows in an array of token ids.

        Args:
            ids: `[tokens]` int32, the ids of many texts.
            starts, lengths: `[rows]` integers, where each row lies in `ids`.
            training: whether dropout acts.

        Returns:
            float32 `[rows, dim]`; zeros for rows of length 0.
        """
        layout = self._pack(starts, lengths)
        hidden = self._below(tf.gather(ids, layout.token_index), layout)
        return self._above(hidden, layout, training)

    def encode_states(self, states, starts, lengths, training: bool = False):
        """Computes vectors from hidden states below the trained layers.

        Args:
            states: `[tokens, hidden]` float32 of `hidden_below`, or a
                function that returns its rows.
            starts, lengths, training: see `encode_ids`.

        Returns:
            float32 `[rows, dim]`; zeros for rows of length 0.
        """
        layout = self._pack(starts, lengths)
        rows = layout.token_index
        hidden = states(rows) if callable(states) else tf.gather(states, rows)
        return self._above(hidden, layout, training)

    def hidden_below(self, ids, starts, lengths):
        """Computes hidden states below the lowest trained layer.

        Args:
            ids, starts, lengths: see `encode_ids`.

        Returns:
            `[tokens, hidden]` float32, and the place of each token in `ids`.
        """
        layout = self._pack(starts, lengths)
        place = layout.token_index
        return self._below(tf.gather(ids, place), layout), place

    def _pack(self, starts, lengths):
        kind = self.architecture
        layout = packing.pack(starts, lengths, self._bounds, kind.form.heads)
        return kind.arrange(self.base, layout)

    def _below(self, ids, layout):
        """Runs the embeddings and the layers below the lowest trained one."""
        kind, base = self.architecture, self.base
        hidden = kind.embed(base, tf.gather(kind.words(base), ids), layout)
        for n in range(self._lowest):
            hidden = self._layer(n, hidden, layout, False)
        return hidden if self.tuning == "full" else tf.stop_gradient(hidden)

    def _above(self, hidden, layout, training):
        for n in range(self._lowest, len(self._layers_run())):
            hidden = self._layer(n, hidden, layout, training)
        hidden = self.architecture.finish(self.base, hidden)
        return self.head(packing.pool(hidden, layout, self.pooling))

    def _layer(self, number, hidden, layout, training):
        weights = self._weights_of(number)
        dropping = bool(training and self.dropout)
        seed = tf.zeros([2], tf.int32)
        if dropping:
            seed = tf.random.uniform([2], maxval=2**30, dtype=tf.int32)
        return self._steps(dropping)(hidden, layout, weights, seed)

    def _weights_of(self, number, plain=False):
        kind = self.architecture
        weights = kind.weights_of(self._layers_run()[number])
        if self.lora is not None:
            weights = self.lora.adapt(weights, self._place(number))
        return transformer.prepare_weights(
            weights, kind.form, self.precision, plain)

    def ready_weights(self) -> list[list[tf.Tensor]]:
        """Returns each layer's weights, prepared for use without gradients."""
        return [self._weights_of(n, plain=True)
                for n in range(len(self._layers_run()))]

    def distinct_weights(self):
        """Returns the weights of each distinct layer, with LoRA's updates."""
        kind = self.architecture
        found = [kind.weights_of(layer) for layer in kind.distinct(self.base)]
        if self.lora is None:
            return found
        return [self.lora.adapt(each, n) for n, each in enumerate(found)]

    def encode(
        self,
        texts: Sequence[str],
        batch_size: int = 256,
        progress: bool = False,
    ) -> np.ndarray:
        """Computes vectors of many texts, without gradients.

        Vectors under the pretrained weights are kept on disk; vectors under
        weights that training has changed are not.

        Args:
            texts: strings; each distinct one is encoded once.
            batch_size: number of short texts (16 tokens) of a step; a step of
                long texts takes fewer.
            progress: whether to show a bar on stderr when it takes long.

        Returns:
            float32 `[n, dim]`.

        Raises:
            TypeError: `texts` is one string, or an element is no string.
        """
        return encode_many.encode(self, texts, 16 * batch_size, progress)

    def for_serving(self, precision: str | None = None) -> ServedEncoder:
        """Returns the encoder, with its weights as they are, for an export.

        It takes strings, or for RoBERTa and GPT-2 ids padded with -1.

        Args:
            precision: `"float32"`, `"bfloat16"` or `"int8"`; None takes the
                encoder's.
        """
        return ServedEncoder(
            self.base, self.architecture, self._tokenizer,
            self.distinct_weights(),
            pooling=self.pooling, head=self.head, max_length=self.max_length,
            precision=precision or self.precision,
        )

    def tokenizer_facts(self) -> dict:
        """Says where texts of an export are tokenised, for the manifest.

        They are tokenised in the `"graph"` or by the `"client"`. For a
        client, the dict has what `client_tokenizer.TextIds` needs beside the
        files of `tokenizer_files`.
        """
        if self._tokenizer.in_graph:
            return {"tokenizer": "graph"}
        return {"tokenizer": "client", "max_length": self.max_length,
                **self._tokenizer.client_facts}

    def tokenizer_files(self) -> dict[str, str]:
        """Returns name -> content of the files that a client needs."""
        if self._tokenizer.in_graph:
            return {}
        return {client_tokenizer.FILE: self._tokenizer.whole}

    def frozen(self) -> TextEncoder:
        """Returns an encoder with the weights as they are, not trained on.

        They count as its pretrained ones. Not for `tuning="lora"`, whose
        updates are merged by an export only.

        Raises:
            ValueError: the encoder has updates of low rank.
        """
        if self.lora is not None:
            raise ValueError(
                "An encoder with updates of low rank cannot be frozen. "
                f"Received: tuning={self.tuning!r}. Train it with another "
                "`tuning`.")
        found = TextEncoder(**{**self.get_config(), "tuning": "frozen"})
        for weight, source in zip(found.base.weights, self.base.weights):
            weight.assign(source)
        found.fingerprint = found.weights_fingerprint()
        return found

    def table(self, texts: Sequence[str]) -> TextTable:
        """Returns a catalogue's texts in the form that trains fastest."""
        return TextTable(self, texts)

    def weights_fingerprint(self) -> str:
        """Returns a hash of all that an encoding depends on, as it is now."""
        return self._digest([], self._all_weights())

    def fingerprint_below(self) -> str:
        """Returns a hash of all that hidden states of `hidden_below` need."""
        return self._digest(
            [self._lowest, self.max_length],
            self.non_trainable_weights if self.tuning == "top_n"
            else self._all_weights())

    def _digest(self, more, weights):
        digest = hashlib.sha256()
        kept = {**self.architecture.facts, "precision": self.precision}
        facts = [kept, *self._tokenizer.facts, *self.head.facts, *more]
        digest.update(json.dumps(facts).encode())
        for weight in weights:
            digest.update(np.ascontiguousarray(weight.numpy()))
        return digest.hexdigest()

    def get_config(self):
        names = (
            "checkpoint", "pooling", "tuning", "top_n", "max_length",
            "dropout", "precision", "rank", "alpha",
        )
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "projections": list(self.projections),
        }
