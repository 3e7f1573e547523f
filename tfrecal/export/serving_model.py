"""ServingModel: a trained model in the form that is exported.

It holds tables of vectors, lookups of ids, an index and, where the model
offers it, what reads histories and texts of requests. Inputs and outputs are
strings, except texts whose tokenizer runs on the client: these come as token
ids. Weights that only training needs and the optimizer are left out.
"""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal.export.index import best_without
from tfrecal.export.served_block import ServedBlock
from tfrecal.export.served_inputs import are_given, same_rows, same_width
from tfrecal.model.catalogue import codes_in, lookup
from tfrecal.model.protocol import label_head
from tfrecal.pool.histories import ragged_histories
from tfrecal.scoring.unknown_users import (
    beside_block,
    stranger_queries,
    stranger_rows,
)

_IDS = tf.TensorSpec([None], tf.string)
_LISTS = tf.TensorSpec([None, None], tf.string)
# What an answer comes from: the number of a source has a bit for the user, one
# for the history of the request, one for the text that is searched for.
_SOURCES = ("user", "history", "user+history", "text", "user+text")
_USER, _HISTORY, _TEXT = 1, 2, 4


class ServingModel(tf.Module):
    """Answers `recommend`, `search`, `rank`, `score` and two `embed` calls.

    The model makes a query from the user, the items of the history (those of
    the request, or else those that the pool knows) and the search text. A
    user whose id was never trained is answered by those who liked the items
    of their history (`unknown_users`). A user of whom nothing is known gets
    the items with the largest traffic. A model without `for_serving` answers
    from tables of vectors. Where the pool's rows were shown in lists, the
    model answers every history by itself. `source` says what an answer comes
    from: "user" is what the export holds of the user, "history" the known
    items of the request's history, "text" the search text, "+" joins two of
    them; else it is "popular", or "none" for a pair of `score` whose user or
    item is unknown.

    Args:
        scorer: the `PoolScorer` of a trained model and of the pool that it
            was trained on.
        index: what `index.build_index` made of the candidates' retrieval
            blocks.
        k: number of items of an answer; the catalogue must have as many.
        encoder: a `TextEncoder` that reads texts in place of the model's,
            such as a student of it (`distill`).
        precision: precision of the encoder, see `ServedEncoder`; None for
            its own.

    Attributes:
        functions: signature name -> `tf.function`.
        tokenizer: what a client must know of texts, for the manifest.
        tokenizer_files: name -> content of the files that a client needs to
            tokenise texts.
    """

    def __init__(self, scorer, index, k: int = 20, encoder=None,
                 precision: str | None = None):
        super().__init__(name="tfrecal")
        pool = scorer.pool
        self.k = min(k, len(pool.item_ids))
        self.index = index
        self._served, self._texts = None, None
        self.tokenizer, self.tokenizer_files = {}, {}
        if hasattr(scorer.model, "for_serving"):
            self._served = scorer.model.for_serving(
                scorer, encoder, precision)
            self._texts = self._served.texts
            self.tokenizer = self._served.tokenizer
            self.tokenizer_files = self._served.tokenizer_files
        self._make_tables(scorer)
        self._make_labels(scorer)
        self.functions = self._functions()

    def _make_tables(self, scorer):
        pool = scorer.pool
        query, candidate = scorer.trained_vectors("retrieval")
        self._block = None
        block = scorer.linear_block(query, candidate)
        if block is not None:
            self._block = ServedBlock(block, getattr(
                self._served, "item_texts", None))
            candidate = np.hstack([candidate, block.candidates])
        self._candidates = _table(candidate)
        self._make_known(scorer, query, block)
        of_users, of_items = scorer.vectors("rating")
        self._rating = _table(of_items)
        if self._served is None:
            self._user_rating = _table(of_users)
        order = np.argsort(-pool.item_traffic[1:], kind="stable")
        traffic = pool.item_traffic[1:][order]
        share = (traffic + 1) / (traffic + 1).sum()
        self._popular = _table(order.astype(np.int32))
        self._popular_score = _table(np.log(share).astype(np.float32))
        # By code: 0, an item that is new, has no traffic.
        self._popularity = _table(np.log(
            (pool.item_traffic + 1) / (traffic + 1).sum()).astype(np.float32))
        self._item_ids = _table([b"", *(
            str(i).encode() for i in pool.item_ids)])
        self._users = lookup(pool.user_ids)
        self._items = lookup(pool.item_ids)

    def _make_known(self, scorer, query, block):
        """Makes tables: trained users, known users, queries of all users."""
        pool = scorer.pool
        if self._served is not None:
            trained = self._served.trained
            # A user is known by what was learned, not by a row in a table.
            known = query.any(axis=1)
        else:
            trained = np.zeros(len(query), bool)
            trained[pool.user[pool.labelled_rows()]] = True
            # A tower that reads columns knows something of everybody.
            known = trained | any(
                name not in ("user_id", "history")
                for name in scorer.offers.query_features)
            known[0] = False
        self._user_known = _table(known)
        self._user_trained = _table(trained if trained.any() else ~trained)
        # Where training compared what lists showed, a history answers best
        # by itself (benchmarks/impressions.py).
        self._by_likes = self._served is None or not pool.has_lists
        vectors = query if not self._by_likes else self._with_strangers(
            scorer, self._user_trained.numpy(), query, block)
        if block is not None:
            vectors = np.hstack([vectors, block.queries])
        self._user_vectors = _table(vectors)
        self._width = query.shape[1]

    def _with_strangers(self, scorer, trained, query, block):
        """Replaces queries of users never trained by those of their likes.

        Returns:
            float32 `[users + 1, d]`.
        """
        indptr, items = scorer.pool.histories()
        mean, rows = stranger_rows(
            query, indptr, items, trained, scorer.pool.item_vocabulary.size)
        if block is not None:
            mean, rows = beside_block(
                mean, rows, block.solved.options.popular)
        self._stranger_mean, self._stranger_rows = _table(mean), _table(rows)
        some = np.flatnonzero(~trained & (np.diff(indptr) > 0))
        query = query.copy()
        query[some] = self._queries_by_likes(
            ragged_histories(indptr, items, some, scorer.max_history),
            block.queries[some] if block is not None else None)
        return query

    def _queries_by_likes(self, codes, linear):
        """Returns trained blocks of strangers by the items they liked.

        Args:
            codes: codes of the items, `[B, None]`.
            linear: their linear blocks `[B, rank]`, or None without one.
        """
        found = stranger_queries(
            self._stranger_mean, self._stranger_rows, codes)
        return found if linear is None else (
            found * self._block.evidence(linear))

    def _make_labels(self, scorer):
        self._predict = None
        if not scorer.offers.labels:
            return
        self._predict = label_head(scorer.model)
        if self._predict is None:
            try:
                self._predict = tf.function(
                    scorer.model.predict_label).get_concrete_function(
                        tf.TensorSpec([None], tf.float32))
            except Exception as error:  # of code that is no graph
                raise ValueError(
                    "`predict_label` must work on tensors to be exported. "
                    f"Received: {type(error).__name__} for a tensor of "
                    "scores. Write it with TensorFlow's operations in place "
                    "of NumPy's.") from error
            # Kept as an attribute, so that they are exported.
            self._label_variables = list(self._predict.variables)

    def _functions(self) -> dict:
        # An optional input that is left out has no row, though the request
        # has some. Not made at import: a process that ran an operation can
        # no longer be forked.
        no_id, no_list = tf.zeros([0], tf.string), tf.zeros([0, 0], tf.string)
        no_tokens = tf.zeros([0, 0], tf.int32)

        def signature(*specs):
            return tf.function(
                autograph=False, input_signature=specs)

        @signature(_named(_IDS, "user_id"), _named(_LISTS, "history"),
                   _named(_LISTS, "exclude"))
        def recommend(user_id, history=no_list, exclude=no_list):
            # The usual request has no lists: a tenth of the operations.
            return tf.cond(
                tf.size(history) + tf.size(exclude) > 0,
                lambda: in_full(user_id, history, exclude),
                lambda: self._recommend_by_id(user_id))

        # This function is not inlined: as part of the graph, its many
        # operations would take time even if they are not run.
        @tf.function(autograph=False, input_signature=[_IDS, _LISTS, _LISTS],
                     experimental_attributes={"_noinline": True})
        def in_full(user_id, history, exclude):
            query, _, source = self._query(user_id, history)
            return self._best_items(query, source, exclude)

        @signature(_named(_IDS, "user_id"), _named(_IDS, "item_id"),
                   _named(_LISTS, "history"))
        def score(user_id, item_id, history=no_list):
            return self._score(user_id, item_id, history)

        found = {"serving_default": recommend, "recommend": recommend}
        if self._predict is not None:
            found["score"] = score
        if self._texts is None:

            @signature(_named(_IDS, "user_id"), _named(_LISTS, "history"))
            def embed_queries(user_id=no_id, history=no_list):
                return {"embedding": self._query(user_id, history)[0]}

            @signature(_named(_IDS, "item_id"))
            def embed_candidates(item_id):
                codes = codes_in(self._items, item_id)
                return {"embedding": tf.gather(self._candidates, codes)}

            @signature(_named(_IDS, "user_id"), _named(_LISTS, "history"),
                       _named(_LISTS, "item_id"))
            def rank(user_id=no_id, history=no_list, item_id=no_list):
                return self._rank(user_id, history, item_id)
        else:
            # Tokens of a client come under the name `token_ids`.
            texts = self._texts
            none, no_lists = (no_id, no_list) if texts.dtype == tf.string \
                else (no_tokens, no_tokens[tf.newaxis][:0])
            lists = tf.TensorSpec([None, *texts.shape], texts.dtype,
                                  texts.name)

            @signature(texts, _named(_IDS, "user_id"),
                       _named(_LISTS, "exclude"))
            def search(text, user_id=no_id, exclude=no_list):
                query, _, source = self._query(user_id, no_list, text)
                return self._best_items(query, source, exclude)

            # Not inlined for the reason of `in_full`.
            @tf.function(autograph=False, input_signature=[texts],
                         experimental_attributes={"_noinline": True})
            def of_texts(text):
                return self._candidates_of_texts(text)

            @signature(_named(_IDS, "user_id"), _named(_LISTS, "history"),
                       _named(_LISTS, "item_id"), lists)
            def rank(user_id=no_id, history=no_list, item_id=no_list,
                     text=no_lists):
                return self._rank(user_id, history, item_id, text, of_texts)

            @signature(_named(_IDS, "user_id"), _named(_LISTS, "history"),
                       texts)
            def embed_queries(user_id=no_id, history=no_list, text=none):
                return {"embedding": self._query(user_id, history, text)[0]}

            @signature(_named(_IDS, "item_id"), texts)
            def embed_candidates(item_id=no_id, text=none):
                return {"embedding": self._candidate(item_id, text)}

            found["search"] = search
        return {**found, "rank": rank, "embed_queries": embed_queries,
                "embed_candidates": embed_candidates}

    def _query(self, user_id, history, text=None):
        """Returns vectors of queries, and what they come from.

        Returns:
            `(retrieval [B, d], rating [B, d'], source [B])`; the source is
            an int32, 0 where nothing is known.
        """
        inputs = {"user_id": user_id, "history": history}
        if text is not None:
            inputs["text"] = text
        inputs = same_rows(inputs)
        codes = codes_in(self._users, inputs["user_id"])
        likes = codes_in(self._items, inputs["history"])
        some = tf.reduce_any(likes > 0, axis=1)
        source = _USER * tf.cast(tf.gather(self._user_known, codes), tf.int32)
        if self._served is None and self._block is None:
            # Plain towers know trained users by their ids alone.
            source += _HISTORY * tf.cast(
                some & ~tf.gather(self._user_trained, codes), tf.int32)
        else:
            source += _HISTORY * tf.cast(some, tf.int32)

        stored = tf.gather(self._user_vectors, codes)[:, :self._width]

        linear = (None if self._block is None else
                  self._block.queries(codes, likes, some))

        def for_strangers(retrieval):
            # Only users that training never saw are replaced.
            return tf.where(
                tf.gather(self._user_trained, codes)[:, tf.newaxis],
                retrieval, tf.where(
                    some[:, tf.newaxis],
                    self._queries_by_likes(likes, linear), stored))

        def with_block(retrieval, text=None):
            if linear is None:
                return retrieval
            # A search is not for what the user likes.
            taste = linear if text is None else tf.where(
                text[:, tf.newaxis], 0.0, linear)
            return tf.concat([retrieval, taste], axis=1)

        if self._served is None:
            return (with_block(for_strangers(stored)),
                    tf.gather(self._user_rating, codes), source)
        features, there = {"history": likes}, {"history": some}
        if text is not None:
            features["search_text"] = inputs["text"]
            there["search_text"] = are_given(inputs["text"])
            source += _TEXT * tf.cast(there["search_text"], tf.int32)
        blocks = self._served.embed_queries(
            codes, features, there,
            for_strangers if self._by_likes else None)
        return (with_block(blocks["retrieval"], there.get("search_text")),
                blocks["rating"], source)

    def _candidate(self, item_id, text):
        inputs = same_rows({"item_id": item_id, "text": text})
        codes = codes_in(self._items, inputs["item_id"])
        new = (codes == 0) & are_given(inputs["text"])
        return tf.where(
            new[:, tf.newaxis], self._candidates_of_texts(inputs["text"]),
            tf.gather(self._candidates, codes))

    def _candidates_of_texts(self, texts):
        vectors = self._served.text_vectors(texts)
        found = self._served.embed_text_vectors(vectors)
        if self._block is None:
            return found
        return tf.concat([found, self._block.of_texts(vectors)], axis=1)

    def _rank(self, user_id, history, item_id, text=None, of_texts=None):
        """Orders candidates; those of which nothing is known are the last."""
        inputs = {"user_id": user_id, "history": history, "item_id": item_id}
        if text is not None:
            inputs["text"] = text
        inputs = same_rows(inputs)
        query, _, source = self._query(inputs["user_id"], inputs["history"])
        item_id = inputs["item_id"]
        if text is not None:
            item_id, text = same_width(item_id, inputs["text"])
        codes = codes_in(self._items, item_id)
        there = codes > 0
        vectors = tf.gather(self._candidates, codes)
        if text is not None:
            new = ~there & are_given(text)
            there |= new
            vectors = tf.cond(
                tf.reduce_any(new), lambda: tf.tensor_scatter_nd_update(
                    vectors, tf.where(new), of_texts(
                        tf.boolean_mask(text, new))), lambda: vectors)
        scores = tf.where(
            source[:, tf.newaxis] > 0, tf.einsum("bd,bcd->bc", query, vectors),
            tf.gather(self._popularity, codes))
        scores = tf.where(there, scores, -np.inf)
        # Of equal scores `top_k` puts the earlier first.
        order = tf.math.top_k(scores, tf.shape(scores)[1]).indices
        return {"scores": scores, "order": order,
                "source": _named_source(source, "popular")}

    def _recommend_by_id(self, user_id):
        """Answers `recommend` where only the user is given."""
        codes = codes_in(self._users, user_id)
        scores, places = self.index.search(
            tf.gather(self._user_vectors, codes), self.k)
        known = tf.gather(self._user_known, codes)
        scores, places = self._with_popular_items(
            scores, places, known, lambda: (
                self._popular_score[:self.k], self._popular[:self.k]))
        return {"item_ids": tf.gather(self._item_ids, places + 1),
                "scores": scores,
                "source": tf.where(known, "user", "popular")}

    def _best_items(self, query, source, exclude):
        """Finds the best `k` that are not excluded.

        An empty id stands where fewer are left.
        """
        exclude = same_rows({"query": query, "exclude": exclude})["exclude"]
        excluded = codes_in(self._items, exclude) - 1
        scores, places = self.index.search(query, self.k, excluded)
        scores, places = self._with_popular_items(
            scores, places, source > 0, lambda: self._most_popular(excluded))
        codes = tf.where(tf.math.is_finite(scores), places + 1, 0)
        return {"item_ids": tf.gather(self._item_ids, codes),
                "scores": scores, "source": _named_source(source, "popular")}

    def _with_popular_items(self, scores, places, known, popular):
        """Puts popular items into rows of which nothing is known."""
        def with_popular():
            rest, instead = popular()
            row = known[:, tf.newaxis]
            return tf.where(row, scores, rest), tf.where(row, places, instead)

        return tf.cond(tf.reduce_all(known), lambda: (scores, places),
                       with_popular)

    def _most_popular(self, excluded):
        first = self.k + tf.shape(excluded)[1]
        rows = tf.shape(excluded)[0]
        scores, places = (tf.repeat(table[tf.newaxis, :first], rows, axis=0)
                          for table in (self._popular_score, self._popular))
        return best_without(scores, places, excluded, self.k)

    def _score(self, user_id, item_id, history):
        inputs = same_rows({
            "user_id": user_id, "item_id": item_id, "history": history})
        retrieval, rating, source = self._query(
            inputs["user_id"], inputs["history"])
        if self._served is None:  # its labels are predicted by id alone
            source &= _USER
        codes = codes_in(self._items, inputs["item_id"])
        source = tf.where(codes > 0, source, 0)
        other = tf.gather(self._rating, codes)
        raw = tf.reduce_sum(rating * other, axis=1)
        return {
            "score": tf.reduce_sum(
                retrieval * tf.gather(self._candidates, codes), axis=1),
            "rating": self._predict(raw),
            "uncertainty": tf.where(
                source > 0, self._uncertainty(rating, other), np.nan),
            "source": _named_source(source, "none")}

    def _uncertainty(self, query, candidate):
        """Returns standard deviations of the inner products, float32 `[B]`.

        They are NaN where the model does not tell them.
        """
        if self._served is None:
            return tf.fill([tf.shape(query)[0]], np.float32(np.nan))
        return self._served.uncertainty(query, candidate)


def _named(spec, name):
    return tf.TensorSpec(spec.shape, spec.dtype, name)


def _table(values) -> tf.Variable:
    """Makes a variable: a graph holds 2 GB of constants at most."""
    return tf.Variable(values, trainable=False)


def _named_source(source, otherwise: str) -> tf.Tensor:
    """Returns the names of sources, string `[B]`."""
    return tf.gather(tf.constant([otherwise, *_SOURCES]), source)
