"""An export of a tower that reads histories in their order."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from exports import K, save_model

from tfrecal.model.linear_block import BlockOptions
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer

pytestmark = pytest.mark.large  # half a minute
NONE = tf.zeros([0, 0], tf.string)


@pytest.fixture(scope="module", params=[None, BlockOptions(rank=8)])
def made(request, shop, tmp_path_factory):
    """A trained model, its pool, what was saved, and some of the items."""
    pool = Pool.from_interactions(shop, initial=0.6, seed=0)
    model = TwoTower.from_interactions(
        shop, embedding_dim=8, query="sequence", mean=3.0,
        linear_block=request.param)
    model.compile(learning_rate=0.02)
    model.fit(pool.sequence(64), epochs=2, verbose=0)
    folder = tmp_path_factory.mktemp("saved")
    save_model(model, pool, folder)
    return (model, pool, tf.saved_model.load(str(folder)),
            [str(i) for i in pool.item_ids[[4, 9, 2]]])


def trained(model, user, history):
    """The trained retrieval block of a user and a history."""
    return model.embed_queries({
        "user_id": tf.constant([user]),
        "history": tf.constant([history])})["retrieval"].numpy()


def asked(loaded, name, user, history):
    return loaded.signatures[name](
        user_id=tf.constant([user]), history=tf.constant([history]),
        **({"exclude": NONE} if name == "recommend" else {}))


def test_a_known_user_gets_what_the_model_ranks_first(made):
    model, pool, loaded, _ = made
    query, candidate = PoolScorer.of(model, pool).vectors("retrieval")
    scores = query[3] @ candidate[1:].T
    found = loaded.signatures["recommend"](
        user_id=tf.constant([str(pool.user_ids[2])]), history=NONE,
        exclude=NONE)
    np.testing.assert_allclose(
        found["scores"][0], np.sort(scores)[::-1][:K], atol=1e-5)


def test_the_history_of_a_request_is_read_in_its_order(made):
    model, pool, loaded, items = made
    for user in (str(pool.user_ids[2]), "nobody"):
        one, other = (asked(loaded, "embed_queries", user, history)[
            "embedding"].numpy()[:, :8] for history in (items, items[::-1]))
        np.testing.assert_allclose(
            one, trained(model, user, items), atol=1e-5)
        np.testing.assert_allclose(
            other, trained(model, user, items[::-1]), atol=1e-5)
        assert np.abs(one - other).max() > 1e-3


def test_an_unknown_user_gets_a_list_for_a_history(made):
    model, pool, loaded, items = made
    found = asked(loaded, "recommend", "nobody", ["", "nothing", *items])
    query = asked(loaded, "embed_queries", "nobody", items)["embedding"]
    candidate = PoolScorer.of(model, pool).vectors("retrieval")[1]
    scores = (query.numpy() @ candidate[1:].T)[0]
    np.testing.assert_allclose(
        found["scores"][0], np.sort(scores)[::-1][:K], atol=1e-5)
    popular = asked(loaded, "recommend", "nobody", [""])
    unknown = asked(loaded, "recommend", "nobody", ["nothing"])
    np.testing.assert_array_equal(popular["item_ids"], unknown["item_ids"])


def test_a_very_long_history_is_answered_by_its_end(made):
    _, pool, loaded, items = made
    long = [str(i) for i in np.random.default_rng(0).choice(
        pool.item_ids, 10_000)]
    one, other = (asked(loaded, "embed_queries", "nobody", history)[
        "embedding"].numpy()[:, :8] for history in (long, long[-64:]))
    np.testing.assert_allclose(one, other, atol=1e-5)
