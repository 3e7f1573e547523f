"""Order of given candidates, scores by a history, and where answers come from.
"""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from plain_towers import make_towers

from tfrecal.export.index import build_index
from tfrecal.export.serving_model import ServingModel
from tfrecal.model.linear_block import BlockOptions
from tfrecal.model.tasks import Retrieval
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # half a minute
K = 5
BLOCK = BlockOptions(rank=8)


class Made:
    """A small trained model, its pool, and what would be exported."""

    def __init__(self, shop, encoder=None, own=False, block=None, tasks=None):
        self.own, self.block = own, block
        self.pool = Pool.from_interactions(shop, initial=0.5, seed=0)
        if own:  # plain TFRS towers of a user's
            self.model = make_towers(shop, 0, 3.0)
        else:
            self.model = TwoTower.from_interactions(
                shop, encoder=encoder, embedding_dim=4, dropout=0.1,
                query_columns=[], tasks=tasks)
            self.model.compile(learning_rate=0.02)
        self.model.linear_block = block
        self.model.fit(self.pool.sequence(
            64, ids="strings" if own else "codes"), epochs=2, verbose=0,
            shuffle=False)
        scorer = PoolScorer.of(self.model, self.pool)
        _, candidate = scorer.vectors("retrieval")
        self.serving = ServingModel(
            scorer, build_index(candidate[1:], k=K, kind="exact"), K)
        self.users = [str(user) for user in self.pool.user_ids]
        self.items = [str(item) for item in self.pool.item_ids]

    def ask(self, name, **inputs):
        found = self.serving.functions[name](**{
            name: tf.constant(values) for name, values in inputs.items()})
        return {name: value.numpy() for name, value in found.items()}


@pytest.fixture(scope="module")
def texts(shop, tiny_bert_folder):
    return Made(shop, TextEncoder(tiny_bert_folder, max_length=12))


@pytest.fixture(scope="module")
def blocked(shop, tiny_bert_folder):
    return Made(shop, TextEncoder(tiny_bert_folder, max_length=12),
                block=BLOCK)


@pytest.fixture(scope="module")
def no_texts(shop):
    return Made(shop)


@pytest.fixture(scope="module")
def own(shop):
    return Made(shop, own=True)


@pytest.fixture(scope="module")
def own_blocked(shop):
    return Made(shop, own=True, block=BLOCK)


@pytest.fixture(params=["texts", "blocked", "no_texts", "own", "own_blocked"])
def made(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["texts", "blocked"])
def reads(request):
    """Models that read texts."""
    return request.getfixturevalue(request.param)


def assert_in_order(found):
    """Places follow from scores; equal scores keep the request's order."""
    assert np.array_equal(found["order"], np.argsort(
        -found["scores"], axis=1, kind="stable"))
    assert found["order"].dtype == np.int32


def test_scores_are_those_of_the_vectors(made):
    users = [*made.users[:3], "nobody"]
    history = [["", ""], made.items[:2], ["", ""], made.items[2:4]]
    candidates = [made.items[n:n + 6] for n in range(4)]
    for given in ({"user_id": users}, {"history": history},
                  {"user_id": users, "history": history}):
        found = made.ask("rank", item_id=candidates, **given)
        query = made.ask("embed_queries", **given)["embedding"]
        vectors = made.ask("embed_candidates", item_id=np.ravel(candidates))
        expected = np.einsum(
            "bd,bcd->bc", query, vectors["embedding"].reshape(4, 6, -1))
        known = found["source"] != b"popular"
        np.testing.assert_allclose(
            found["scores"][known], expected[known], rtol=1e-4, atol=1e-5)
        assert known.sum() == (2 if "user_id" not in given else
                               3 if "history" not in given else 4)
        assert_in_order(found)


def test_the_whole_catalogue_is_ranked_as_it_is_recommended(made):
    users = made.users[:4]
    found = made.ask("rank", user_id=users, item_id=[made.items] * 4)
    recommended = made.ask("recommend", user_id=users)
    best = np.array(made.items)[found["order"][:, :K]]
    assert best.tolist() == recommended["item_ids"].astype(str).tolist()
    np.testing.assert_allclose(
        np.take_along_axis(found["scores"], found["order"][:, :K], 1),
        recommended["scores"], rtol=1e-5, atol=1e-5)


def test_what_is_unknown_comes_last(made):
    row = ["", "no such item", made.items[3], "", made.items[1]]
    found = made.ask("rank", user_id=[made.users[0], "nobody"],
                     item_id=[row, row])
    there = np.array([False, False, True, False, True])
    assert np.array_equal(np.isfinite(found["scores"]), [there, there])
    assert np.all(found["scores"][:, ~there] == -np.inf)
    assert_in_order(found)


def test_unknown_users_get_popular_candidates_first(made):
    traffic = made.pool.item_traffic[1:]
    found = made.ask("rank", user_id=["nobody", ""],
                     item_id=[made.items, made.items[::-1]])
    share = np.log((traffic + 1) / (traffic + 1).sum())
    np.testing.assert_allclose(found["scores"], [share, share[::-1]],
                               rtol=1e-5)
    assert_in_order(found)
    assert found["source"].tolist() == [b"popular"] * 2


def test_a_new_item_is_ranked_by_its_text(reads):
    words = ["blue chair", "a red lamp"]
    row = [reads.items[0], "new", "newer", "newest", reads.items[1]]
    texts = ["not read", words[0], words[1], "", ""]
    found = reads.ask("rank", user_id=reads.users[:2], item_id=[row] * 2,
                      text=[texts, texts])
    query = reads.ask("embed_queries", user_id=reads.users[:2])["embedding"]
    vectors = reads.ask("embed_candidates", text=words)["embedding"]
    np.testing.assert_allclose(
        found["scores"][:, 1:3], query @ vectors.T, rtol=1e-4, atol=1e-5)
    assert np.all(found["scores"][:, 3] == -np.inf)
    plain = reads.ask("rank", user_id=reads.users[:2],
                      item_id=[[row[0], row[4]]] * 2)
    np.testing.assert_allclose(found["scores"][:, [0, 4]], plain["scores"],
                               rtol=1e-5, atol=1e-6)
    assert_in_order(found)
    # Texts alone are enough, and a shorter list is one with blanks.
    alone = reads.ask("rank", user_id=reads.users[:2], text=[words, words])
    np.testing.assert_allclose(
        alone["scores"], found["scores"][:, 1:3], rtol=1e-4, atol=1e-5)
    wider = reads.ask("rank", user_id=reads.users[:1], text=[words],
                      item_id=[["new", "newer", reads.items[0]]])
    np.testing.assert_allclose(
        wider["scores"][0], found["scores"][0, [1, 2, 0]], rtol=1e-4,
        atol=1e-5)
    # To strangers a new item has no traffic: nothing is less popular.
    stranger = reads.ask("rank", user_id=["nobody"], item_id=[row],
                         text=[texts])["scores"][0]
    total = (reads.pool.item_traffic[1:] + 1).sum()
    np.testing.assert_allclose(stranger[1:3], np.log(1 / total), rtol=1e-5)


def test_empty_batches_and_rows(made):
    found = made.ask("rank", user_id=np.zeros([0], object),
                     item_id=np.zeros([0, 3], object))
    assert found["scores"].shape == found["order"].shape == (0, 3)
    found = made.ask("rank", user_id=made.users[:2])
    assert found["scores"].shape == found["order"].shape == (2, 0)
    assert found["source"].tolist() == [b"user"] * 2


@pytest.mark.parametrize("inputs", [
    {"user_id": ["a", "b"], "item_id": [["x"]] * 3},
    {"history": [["a"], ["b"]], "item_id": [["x"]] * 3},
    {"user_id": ["a"], "history": [["a"], ["b"]], "item_id": [["x"]]}])
def test_rows_must_agree(made, inputs):
    with pytest.raises(tf.errors.InvalidArgumentError,
                       match="Every input must have a row"):
        made.ask("rank", **inputs)


def test_sources_of_lists(made):
    users = [made.users[0], made.users[0], "nobody", "nobody", "", "nobody"]
    history = [[""], made.items[:1], made.items[:1], ["no such item"], [""],
               [""]]
    # Plain towers know a user by the id alone, unless a block knows more.
    both = "user" if made.own and not made.block else "user+history"
    expected = ["user", both, "history", "popular", "popular", "popular"]
    for name, more in (("recommend", {}), (
            "rank", {"item_id": [made.items[:2]] * 6})):
        found = made.ask(name, user_id=users, history=history, **more)
        assert found["source"].astype(str).tolist() == expected
    by_id = made.ask("recommend", user_id=users)["source"].astype(str)
    assert by_id.tolist() == ["user"] * 2 + ["popular"] * 4


def test_sources_of_searches(reads):
    found = reads.ask("search", text=["chair", "chair", "", ""],
                      user_id=[reads.users[0], "nobody"] * 2)
    assert found["source"].astype(str).tolist() == [
        "user+text", "text", "user", "popular"]


def test_unknown_pairs_have_no_uncertainty(made):
    users = [made.users[0], "nobody", made.users[0], ""]
    items = [made.items[0], made.items[0], "no such item", ""]
    found = made.ask("score", user_id=users, item_id=items)
    assert found["source"].astype(str).tolist() == ["user"] + ["none"] * 3
    assert np.isfinite(found["rating"]).all()
    assert np.isfinite(found["uncertainty"]).tolist() == [
        not made.own, False, False, False]


@pytest.mark.parametrize("kind", ["texts", "no_texts", "blocked"])
def test_a_pair_is_scored_by_a_history(kind, request):
    made = request.getfixturevalue(kind)
    users = [made.users[0], "nobody", "nobody"]
    items, history = made.items[4:7], [made.items[1:3]] * 2 + [["", "no"]]
    found = made.ask("score", user_id=users, item_id=items, history=history)
    query = made.model.embed_queries({
        "user_id": tf.constant(users), "history": tf.constant(history)})
    candidate = made.model.embed_candidates({"item_id": tf.constant(items)})
    raw = np.sum(query["rating"] * candidate["rating"], axis=1)
    np.testing.assert_allclose(
        found["rating"], made.model.predict_label(raw), atol=1e-5)
    q, c = query["rating"].numpy()[:2, :4], candidate["rating"].numpy()[:2, :4]
    factor = 1 / 0.9 ** 2 - 1  # of dropout 0.1 on both sides
    np.testing.assert_allclose(
        found["uncertainty"][:2], np.sqrt(factor * np.sum(
            (q * c) ** 2, axis=1)), rtol=1e-4)
    assert np.isnan(found["uncertainty"][2])
    assert found["source"].astype(str).tolist() == [
        "user+history", "history", "none"]
    vectors = made.ask("embed_queries", user_id=users, history=history)
    others = made.ask("embed_candidates", item_id=items)
    np.testing.assert_allclose(found["score"], np.sum(
        vectors["embedding"] * others["embedding"], axis=1), atol=1e-5)


def test_ratings_of_plain_towers_know_no_history(own_blocked):
    made = own_blocked
    history = [made.items[1:3]] * 2
    pairs = {"user_id": [made.users[0], "nobody"], "item_id": made.items[:2]}
    found = made.ask("score", history=history, **pairs)
    without = made.ask("score", **pairs)
    assert found["source"].astype(str).tolist() == ["user", "none"]
    np.testing.assert_array_equal(found["rating"], without["rating"])
    assert np.all(found["score"] != without["score"])


def test_a_model_without_labels_ranks(shop):
    made = Made(shop, tasks=[Retrieval(name="retrieval")])
    assert "score" not in made.serving.functions
    found = made.ask("rank", user_id=["nobody"], history=[made.items[:2]],
                     item_id=[made.items])
    assert found["source"].tolist() == [b"history"]
    assert_in_order(found)


def test_long_histories_and_repeated_items(made):
    rows = [made.items[:1] * 10_000, (made.items[:1] + ["?"]) * 5_000]
    found = made.ask("rank", history=rows, item_id=[made.items[:3]] * 2)
    assert np.isfinite(found["scores"]).all()
    # Unknown items take no part.
    short = made.ask("rank", history=[made.items[:1] * 5_000],
                     item_id=[made.items[:3]])
    np.testing.assert_allclose(found["scores"][1], short["scores"][0],
                               rtol=1e-4, atol=1e-5)


def test_strange_strings(reads):
    strange = ["\0", "a\0b", "x" * 100_000, "\ud7ff", "  "]
    found = reads.ask("rank", user_id=["\0"], history=[strange],
                      item_id=[strange], text=[strange])
    assert np.isfinite(found["scores"]).sum() == 5
    assert found["source"].tolist() == [b"popular"]
