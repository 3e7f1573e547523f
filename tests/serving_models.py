"""What tests of the model server share: tiny SavedModels, a free port."""
from __future__ import annotations

import socket

import tensorflow as tf


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as found:
        found.bind(("", 0))
        return found.getsockname()[1]


def write_model(folder) -> None:
    """A lookup of ids, optional inputs, and signatures that fail.

    `serving_default`: `user_id [B]`, optional `bonus [B]` -> `scores [B, 2]`
    (the user's number plus the bonus, and its negative), `names [B]`.

    Args:
        folder: of the version.
    """
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(["a", "b", "c"]), tf.constant([1.0, 2.0, 3.0])), 0.0)
    module.matrix = tf.Variable(tf.ones([200, 200]))

    def signature(**inputs):
        return tf.function(autograph=False, input_signature=[
            tf.TensorSpec(shape, dtype, name)
            for name, (shape, dtype) in inputs.items()])

    @signature(user_id=([None], tf.string), bonus=([None], tf.float32))
    def default(user_id, bonus=tf.zeros([0])):
        rows = tf.shape(user_id)[0] - tf.shape(bonus)[0]
        bonus = tf.concat([bonus, tf.zeros([rows])], axis=0)
        number = module.table.lookup(user_id) + bonus
        return {"scores": tf.stack([number, -number], axis=1),
                "names": tf.strings.join(["user ", user_id])}

    @signature(x=([None, 2], tf.float32), y=([None, 2], tf.float32))
    def add(x, y):
        return {"sum": x + y}

    @signature(ids=([None], tf.int64))
    def gather(ids):
        return {"values": tf.gather(tf.constant([10, 20, 30]), ids)}

    @signature(rounds=([None], tf.int32))
    def spin(rounds):
        def multiply(n, matrix):
            return n + 1, tf.matmul(matrix, matrix) * 1e-3
        found = tf.while_loop(lambda n, _: n < rounds[0], multiply,
                              (0, module.matrix))
        return {"rounds": rounds + tf.cast(found[1][0, 0] * 0, tf.int32)}

    @signature(ids=([None], tf.string))
    def count(ids):
        return {"number": tf.size(ids), "first": ids[0]}

    @signature(inputs=([None], tf.string))
    def classify(inputs):
        length = tf.cast(tf.strings.length(inputs), tf.float32)
        return {"classes": tf.tile([["yes", "no"]], [tf.size(inputs), 1]),
                "scores": tf.stack([length, -length], axis=1)}

    @signature(inputs=([None], tf.string))
    def regress(inputs):
        return {"outputs": tf.cast(tf.strings.length(inputs), tf.float32)}

    tf.saved_model.save(module, str(folder), signatures={
        "serving_default": default, "add": add, "gather": gather,
        "spin": spin, "count": count, "classify": classify,
        "regress": regress})
