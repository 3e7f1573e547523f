"""What tests of exports share: a trained model, its export, a server."""
from __future__ import annotations

import numpy as np
import tensorflow as tf
from plain_towers import make_towers

from tfrecal import splits
from tfrecal.export.export_model import export_model
from tfrecal.export.index import build_index
from tfrecal.export.serving_model import ServingModel
from tfrecal.model.protocol import blocks_of
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.serving.server.server import Server, options_of

K = 5


class Exported:
    """A small trained model, its pool, and the export in two loaders."""

    def __init__(self, shop, encoder, folder, own: bool = False,
                 linear_block=None):
        split = splits.random(shop, seed=0)
        self.pool = Pool.from_interactions(split.train, initial=0.5, seed=0)
        self.own = own
        if own:  # plain TFRS towers of a user's
            self.model = make_towers(split.train, 0, 3.0)
        else:
            self.model = TwoTower.from_interactions(
                split.train, encoder=encoder, embedding_dim=4, dropout=0.1)
            self.model.compile(learning_rate=0.02)
        self.model.linear_block = linear_block
        self.model.fit(self.pool.sequence(
            64, ids="strings" if own else "codes"), epochs=3, verbose=0,
            shuffle=False)
        self.folder = folder / "shop"
        self.path = export_model(self.model, self.folder, pool=self.pool,
                                 k=K, metrics={"val_rmse": 1.0})
        self.loaded = tf.saved_model.load(str(self.path))
        with tf.Graph().as_default() as graph:
            self.session = tf.compat.v1.Session(graph=graph)
            self.meta = tf.compat.v1.saved_model.load(
                self.session, ["serve"], str(self.path))

    def by_session(self, name, inputs):
        """What TensorFlow Serving does: absent inputs by their defaults."""
        signature = self.meta.signature_def[name]
        feed = {info.name: inputs[alias] if alias in inputs
                else tf.make_ndarray(signature.defaults[alias])
                for alias, info in signature.inputs.items()}
        return self.session.run({alias: info.name for alias, info
                                 in signature.outputs.items()}, feed)

    def blocks(self, users):
        """Vectors of the model: queries, and all candidates."""
        blocks = self.own_blocks(users)
        linear = PoolScorer.of(self.model, self.pool).linear_block()
        if linear is not None:
            more = linear.queries[self.pool_codes(users)[0]], linear.candidates
            blocks = tuple({**block, "retrieval": tf.concat(
                [block["retrieval"], one], axis=1)}
                for block, one in zip(blocks, more))
        return blocks

    def own_blocks(self, users):
        """The Keras model's own vectors: queries, and all candidates."""
        if self.own:
            ids = [str(i) for i in users]
            query = self.model.embed_queries({"user_id": tf.constant(ids)})
            known = np.isin(ids, self.pool.user_ids.astype(str))
            candidate = self.model.embed_candidates({
                "item_id": tf.constant(self.pool.item_ids.tolist())})
            return (blocks_of(query * known[:, None], "embed_queries"),
                    blocks_of(tf.pad(candidate, [[1, 0], [0, 0]]), "embed"))
        indptr, items = self.pool.histories()
        codes, _ = self.pool_codes(users)
        history = [items[indptr[c]:indptr[c + 1]].tolist() for c in codes]
        query = self.model.embed_queries({
            "user_id": tf.constant(codes),
            "history": tf.ragged.constant(history, tf.int32, ragged_rank=1)})
        everything = np.arange(len(self.pool.item_ids) + 1, dtype=np.int32)
        return query, self.model.embed_candidates({
            "item_id": tf.constant(everything)})

    def pool_codes(self, users, items=()):
        return tuple(
            np.array([1 + list(ids).index(i) if i in set(ids) else 0
                      for i in some], np.int32)
            for ids, some in ((self.pool.user_ids, users),
                              (self.pool.item_ids, items)))


def save_model(model, pool, folder) -> ServingModel:
    """What `export_model` saves, without its checks and its manifest."""
    scorer = PoolScorer.of(model, pool)
    _, candidate = scorer.vectors("retrieval")
    serving = ServingModel(scorer, build_index(
        candidate[1:], k=K, kind="exact"), K)
    tf.saved_model.save(serving, str(folder), signatures=serving.functions)
    return serving


class Served:
    """A small model, here and behind the local server."""

    def __init__(self, shop, encoder, folder):
        pool = Pool.from_interactions(shop, initial=0.5, seed=0)
        model = TwoTower.from_interactions(
            shop, encoder=encoder, embedding_dim=4, dropout=0.1)
        model.compile()
        self.functions = save_model(model, pool, folder / "1").functions
        self.users = [str(u) for u in pool.user_ids[:6]] + ["nobody"]
        self.items = [str(i) for i in pool.item_ids]
        self.server = Server(options_of(
            port=None, model_base_path=str(folder), model_name="recommender"))
        self.server.start()
        self.address = f"localhost:{self.server.grpc_port}"

    def expect(self, name, **inputs):
        """The outputs of a signature, without a server."""
        found = self.functions[name](**{
            alias: tf.constant(values) for alias, values in inputs.items()})
        return {alias: value.numpy() for alias, value in found.items()}
