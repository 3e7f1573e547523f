"""What an export of a model trained on lists answers to histories."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrecal.export.index import build_index
from tfrecal.export.serving_model import ServingModel
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer


@pytest.mark.parametrize("lists", [True, False])
def test_a_history_is_answered_by_the_model_itself(shop, lists):
    data = shop.binarise(4.0)
    if lists:
        data = data.with_frame(data.frame.assign(
            list_id=data.frame["user_id"]))
    pool = Pool.from_interactions(data, initial=0.9)
    model = TwoTower.from_interactions(
        data, embedding_dim=4, linear_block=None)
    model.compile(learning_rate=0.05)
    model.fit(pool.sequence(64), epochs=1, verbose=0, shuffle=False)
    scorer = PoolScorer.of(model, pool)
    _, candidate = scorer.vectors("retrieval")
    served = ServingModel(scorer, build_index(
        candidate[1:], k=3, kind="exact"), 3).functions["embed_queries"]
    liked = pool.item_ids[[2, 5]]
    found = served(user_id=tf.constant([""]), history=tf.constant(
        [list(map(str, liked))]))["embedding"]
    own = model.embed_queries({
        "user_id": tf.constant([0]),
        "history": tf.RaggedTensor.from_row_splits([3, 6], [0, 2])})
    assert np.allclose(found, own["retrieval"], atol=1e-5) == lists
