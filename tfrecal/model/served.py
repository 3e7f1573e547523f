"""ServedTwoTower: the towers of a trained `TwoTower` as they are exported."""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal.model.exact_sums import in_order
from tfrecal.model.parts import join
from tfrecal.model.sequence_tower import SequenceQueryTower


class ServedQueries(tf.Module):
    """Parts of queries: stored ones in tables, request parts of the tower.

    Args:
        tower: a trained `QueryTower`.
        parts: the parts of all codes, as `PoolScorer.parts` returns them.
        vectors: a `TextVectors` that reads texts of requests, or None.
        items: retrieval blocks of candidates, `[items + 1, d]`.
    """

    def __init__(self, tower, parts: dict, vectors, items):
        super().__init__()
        self.requested = tower.request_parts(vectors)
        for part in self.requested.values():
            if hasattr(part, "read_items"):
                part.read_items(items)
        parts = dict(parts)
        self.bias = _table(parts.pop("bias"))
        # Request parts that are also stored, such as the pool's histories.
        self.known = {name: _table(parts.pop(name))
                      for name in self.requested if name in parts}
        self.own = _table(in_order(*parts.values()))

    def stored(self, codes) -> tf.Tensor:
        """Returns the sum of what only the tables hold, `[B, 2d]`.

        Args:
            codes: int32 `[B]`.
        """
        return tf.gather(self.own, codes)

    def part(self, name: str, codes, features: dict, there) -> tf.Tensor:
        """Returns a request part, or what is stored for it, `[B, 2d]`.

        Args:
            name: name of the part.
            codes: int32 `[B]`.
            features: features of the request.
            there: bool `[B]`, True where the request has the feature.
        """
        added = self.requested[name](features)
        rest = (tf.gather(self.known[name], codes) if name in self.known
                else tf.zeros_like(added))
        return tf.where(there[:, tf.newaxis], added, rest)

    def join(self, total, codes) -> dict:
        """Returns the blocks of summed parts; see `parts.join`."""
        return join(total, tf.gather(self.bias, codes), query=True)


class ServedTwoTower(tf.Module):
    """Computes vectors of queries and candidates in an export.

    Args:
        model: a trained `TwoTower`.
        scorer: its `PoolScorer`, whose parts become tables.
        encoder: a `TextEncoder` that reads texts of requests in place of
            the model's, such as a distilled one.
        precision: precision of the encoder, see `ServedEncoder`; None for
            its own.

    Attributes:
        texts: `tf.TensorSpec` of texts in requests; None without texts.
        tokenizer, tokenizer_files: what clients must know of texts.
        trained: which user ids were trained, or need not be, bool
            `[users + 1]`.
    """

    def __init__(self, model, scorer, encoder=None, precision=None):
        super().__init__()
        own = model.candidate_tower.encoder
        self.encoder = self.texts = vectors = None
        self.tokenizer, self.tokenizer_files = {}, {}
        if own is not None:
            reads = encoder or own
            self.encoder = reads.for_serving(precision)
            self.texts = self.encoder.spec
            self.tokenizer = reads.tokenizer_facts()
            self.tokenizer_files = reads.tokenizer_files()
            vectors = model.candidate_tower.vectors_of_texts(self.encoder)
        parts = scorer.parts("query")
        # A sequence answers a history as well for users never trained.
        self.trained = (np.any(parts["id"], axis=1)
                        | isinstance(model.query_tower, SequenceQueryTower))
        self.queries = ServedQueries(
            model.query_tower, parts, vectors,
            scorer.trained_vectors("retrieval")[1])
        self._text = (None if vectors is None else
                      model.candidate_tower.text_part(vectors))
        # Not exported: a linear block learns from it what texts say.
        self.item_texts = None if vectors is None else (
            model.candidate_tower.texts_of_catalogue())
        self._rates = (model.query_tower.dropout,
                       model.candidate_tower.dropout)
        self._dim = model.query_tower.embedding_dim

    def embed_queries(self, codes, features: dict, there: dict,
                      override=None) -> dict:
        """Returns the blocks of queries.

        Args:
            codes: codes of users, int32 `[B]`.
            features: features of the request: `history` codes `[B, H]`
                padded with 0, and, where the model reads texts,
                `search_text`.
            there: feature name -> bool `[B]`, True where a row has it.
            override: a function from the retrieval block of user and
                history `[B, d]` to the one that is served.
        """
        total = in_order(
            self.queries.stored(codes), self.queries.part(
                "history", codes, features, there["history"]))
        rating, retrieval = tf.split(total, 2, axis=1)
        if override is not None:
            retrieval = override(retrieval)
        for name, part in self.queries.requested.items():
            if name != "history" and part.feature in features:
                more, wanted = tf.split(self.queries.part(
                    name, codes, features, there[part.feature]), 2, axis=1)
                rating, retrieval = rating + more, retrieval + wanted
        return self.queries.join((rating, retrieval), codes)

    def text_vectors(self, texts) -> tf.Tensor:
        """Returns standardised vectors of texts, `[B, dim]`."""
        return self._text.vectors(texts)

    def embed_text_vectors(self, vectors) -> tf.Tensor:
        """Returns retrieval blocks of items by text vectors, `[B, d]`."""
        return tf.split(self._text.of_vectors(vectors), 2, axis=1)[1]

    def uncertainty(self, query, candidate) -> tf.Tensor:
        """Returns the standard deviation of scores under dropout, exactly.

        Elements are dropped on their own and divided by 1 - rate, so that
        Var = sum((q c)^2) (1 / ((1 - p) (1 - r)) - 1). It is NaN for a model
        without dropout, which has no uncertainty.

        Args:
            query, candidate: rating blocks `[B, d + 2]`.

        Returns:
            float32 `[B]`.
        """
        p, r = self._rates
        factor = 1 / ((1 - p) * (1 - r)) - 1
        product = (query * candidate)[:, :self._dim]
        if not factor:
            return tf.fill([tf.shape(query)[0]], np.float32(np.nan))
        return tf.sqrt(factor * tf.reduce_sum(product ** 2, axis=1))


def served_likeness(model, encoder, precision: str | None) -> dict:
    """Returns how near the served encoder's vectors are to the model's.

    Args:
        model: a trained `TwoTower`.
        encoder, precision: see `ServedTwoTower`.

    Returns:
        A dict for the manifest: `encoder` with `precision`, `bytes` and
        `cosine`, the mean over up to 256 texts of items, of vectors minus
        the items' mean.

    Raises:
        ValueError: the cosine is not above 0.5, the width is another one,
            or the model reads no texts.
    """
    tower = model.candidate_tower
    if tower.encoder is None:
        raise ValueError(
            "`encoder` and `precision` are of a model that reads texts. "
            "Received: one without an encoder. Leave them out.")
    encoder = encoder or tower.encoder
    texts = list(dict.fromkeys(tower.texts or []))
    texts = texts[::max(1, len(texts) // 256)][:256]
    wanted = np.asarray(tower.encoder(tf.constant(texts)))
    found = encoder.for_serving(precision)
    cosine = float("nan")
    if encoder.dim == tower.encoder.dim:
        read = tf.constant(texts)
        if found.spec.dtype != tf.string:  # as a client sends them
            read = encoder.tokenize(read).to_tensor(-1)
        pair = [vectors - tower.text_centre.numpy() for vectors in (
            wanted, np.asarray(found(read)))]
        norms = [np.linalg.norm(one, axis=1) for one in pair]
        cosine = float(np.mean(np.sum(pair[0] * pair[1], 1) / np.maximum(
            norms[0] * norms[1], 1e-9)))
    if not cosine > 0.5:
        raise ValueError(
            "`encoder` must give vectors like those of the model's. "
            f"Received: {encoder.checkpoint!r} of width {encoder.dim}, mean "
            f"cosine {cosine:.2f} with {tower.encoder.checkpoint!r} of width "
            f"{tower.encoder.dim}. Make one with `tfrecal distill`.")
    return {"encoder": {"precision": precision or encoder.precision,
                        "bytes": found.bytes, "cosine": round(cosine, 4)}}


def _table(values) -> tf.Variable:
    """Returns a variable: constants of a graph may have 2 GB at most."""
    return tf.Variable(values, trainable=False)
