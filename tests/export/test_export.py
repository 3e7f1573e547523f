"""Exports: parity with the model, fallbacks, versions, what servers need."""
from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from exports import Exported, K
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfrecal.export import op_audit
from tfrecal.export.export_model import export_model
from tfrecal.export.index import build_index
from tfrecal.export.manifest import read_manifest
from tfrecal.export.serving_model import ServingModel
from tfrecal.model.linear_block import BlockOptions, text_kernel
from tfrecal.model.parts import HistoryPart
from tfrecal.model.towers import QueryTower
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.serving.manifest import WARM_UP
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # a minute
NONE = tf.zeros([0, 0], tf.string)


@pytest.fixture(scope="module")
def texts(shop, tiny_bert_folder, tmp_path_factory):
    encoder = TextEncoder(tiny_bert_folder, max_length=12)
    return Exported(shop, encoder, tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def no_texts(shop, tmp_path_factory):
    return Exported(shop, None, tmp_path_factory.mktemp("no_texts"))


@pytest.fixture(scope="module")
def own_towers(shop, tmp_path_factory):
    return Exported(shop, None, tmp_path_factory.mktemp("own"), own=True)


@pytest.fixture(scope="module")
def blocked(shop, tiny_bert_folder, tmp_path_factory):
    """A model with a linear block."""
    encoder = TextEncoder(tiny_bert_folder, max_length=12)
    return Exported(shop, encoder, tmp_path_factory.mktemp("blocked"),
                    linear_block=BlockOptions(rank=16, decay=0.8))


@pytest.fixture(scope="module")
def own_blocked(shop, tmp_path_factory):
    """Towers of a user's with a linear block."""
    return Exported(shop, None, tmp_path_factory.mktemp("own_blocked"),
                    own=True, linear_block=BlockOptions(rank=16))


@pytest.fixture(params=["texts", "no_texts"])
def of_ours(request):
    """Exports of a `TwoTower`."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["texts", "no_texts", "own_towers", "blocked",
                        "own_blocked"])
def exported(request):
    """Exports of both kinds of model."""
    return request.getfixturevalue(request.param)


def lists(*rows):
    """Ragged Python lists to a padded string matrix."""
    width = max(map(len, rows))
    return np.array([[*row, *[""] * (width - len(row))] for row in rows],
                    object).reshape(len(rows), width)


@pytest.mark.parametrize("rows", [1, 17])
def test_recommends_what_the_model_ranks_first(exported, rows):
    users = np.array(exported.pool.user_ids[:rows], object)
    query, candidate = exported.blocks(users)
    scores = query["retrieval"].numpy() @ candidate[
        "retrieval"].numpy()[1:].T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    found = exported.loaded.signatures["recommend"](
        user_id=tf.constant(users), history=NONE, exclude=NONE)
    np.testing.assert_allclose(
        found["scores"], np.take_along_axis(scores, order, 1), atol=1e-5)
    assert np.array_equal(found["item_ids"].numpy().astype(str),
                          exported.pool.item_ids[order].astype(str))
    served = exported.by_session("serving_default", {"user_id": users})
    assert np.array_equal(served["item_ids"], found["item_ids"])
    np.testing.assert_allclose(served["scores"], found["scores"], atol=1e-5)


def test_scores_pairs_as_the_model_does(exported):
    users = np.array([*exported.pool.user_ids[:6], "nobody"], object)
    items = np.array([*exported.pool.item_ids[3:9], "nothing"], object)
    query, candidate = exported.blocks(users)
    _, codes = exported.pool_codes(users, items)
    found = exported.by_session("score", {"user_id": users, "item_id": items})
    for block, name in (("retrieval", "score"), ("rating", "rating")):
        raw = np.sum(query[block] * tf.gather(candidate[block], codes), 1)
        expected = raw if name == "score" else exported.model.predict_label(
            raw)
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
    assert found["source"].tolist() == [b"user"] * 6 + [b"none"]
    known = np.zeros(7, bool) if exported.own else np.arange(7) < 6
    assert np.array_equal(np.isfinite(found["uncertainty"]), known)
    assert np.all(found["uncertainty"][known] > 0)


def test_uncertainty_is_that_of_dropout(of_ours):
    users = np.array(of_ours.pool.user_ids[:1], object)
    items = np.array(of_ours.pool.item_ids[:1], object)
    found = of_ours.by_session("score", {"user_id": users, "item_id": items})
    query, candidate = of_ours.blocks(users)
    q, c = query["rating"].numpy()[0, :4], candidate["rating"].numpy()[1, :4]
    keep = np.random.default_rng(0).random((2, 200_000, 4)) >= 0.1
    drawn = (q * keep[0] / 0.9 * c * keep[1] / 0.9).sum(axis=1)
    assert found["uncertainty"][0] == pytest.approx(drawn.std(), rel=0.02)


def test_a_history_replaces_that_of_the_pool(of_ours):
    user = of_ours.pool.user_ids[0]
    items = of_ours.pool.item_ids[[4, 9]]
    query = of_ours.model.embed_queries({
        "user_id": tf.constant([user]),
        "history": tf.constant(lists(items))})["retrieval"]
    found = of_ours.by_session("embed_queries", {
        "user_id": np.array([user], object),
        "history": lists(["", items[0], "nothing", items[1]])})
    np.testing.assert_allclose(found["embedding"], query, atol=1e-5)


@pytest.mark.parametrize("kind", ["blocked", "own_blocked"])
def test_a_history_moves_the_linear_block(kind, request):
    made = request.getfixturevalue(kind)
    block = PoolScorer.of(made.model, made.pool).linear_block()
    rank = block.queries.shape[1]
    users = np.array([made.pool.user_ids[0], "nobody"], object)
    codes = np.array([5, 10])
    items = made.pool.item_ids[codes - 1]
    found = made.by_session("embed_queries", {
        "user_id": users, "history": lists(
            [items[0], "nothing", items[1]], [items[1], "", ""])})
    rows, decay = block.solved.rows, block.solved.options.decay
    np.testing.assert_allclose(found["embedding"][:, -rank:], block.like * (
        np.stack([decay * rows[5] + rows[10], rows[10]])), rtol=1e-4,
        atol=1e-6)
    # Its own scale is in the candidates alone.
    stored = made.by_session("embed_queries", {"user_id": users})
    np.testing.assert_allclose(stored["embedding"][0, -rank:],
                               block.queries[1], rtol=1e-5)
    assert not stored["embedding"][1, -rank:].any()


def test_a_text_has_a_place_in_the_linear_block(blocked):
    block = PoolScorer.of(blocked.model, blocked.pool).linear_block()
    rank = block.queries.shape[1]
    texts = np.array(blocked.model.candidate_tower.texts, object)
    found = blocked.by_session("embed_candidates", {
        "text": texts})["embedding"][:, -rank:]
    own = block.candidates[1:]
    assert found.any(axis=1).all()
    # It is the one that the block gives an item without labels.
    known = blocked.model.item_texts()
    kernel = text_kernel(known, block.candidates, block.solved.graded)
    np.testing.assert_allclose(found, known[1:] @ kernel, rtol=1e-3,
                               atol=1e-4 * np.abs(found).max())
    # The text of an item tells what its clicks tell, better than another's.
    scores = found @ own.T
    place = (scores > np.diag(scores)[:, np.newaxis]).sum(axis=1)
    assert np.mean(place) < 0.4 * len(own)
    search = blocked.by_session("search", {
        "text": texts[:2], "user_id": blocked.pool.user_ids[:2].astype(
            object)})
    assert search["item_ids"].shape == (2, K)


def by_who_likes(pool, query, trained, items):
    """What a stranger is to get, user by user and item by item."""
    indptr, liked = pool.histories()
    of = {u: set(liked[indptr[u]:indptr[u + 1]].tolist()) for u in trained}
    likes = sum(map(len, of.values()))
    mean = sum(len(of[u]) * query[u] for u in trained) / likes
    prior = 30 * likes / sum(1 for u in trained if of[u])
    away = []
    for item in items:
        fans = [u for u in trained if item in of[u]]
        weight = sum(len(of[u]) for u in fans)
        away.append(sum((len(of[u]) * (query[u] - mean) for u in fans), 0)
                    / (weight + prior))
    n = len(items)
    return mean + np.mean(away, axis=0) * 3 * n / (n + 2)


def test_a_stranger_is_answered_by_those_who_like_the_same(exported):
    pool, items = exported.pool, exported.pool.item_ids[[4, 9, 11]]
    query = exported.own_blocks(pool.user_ids)[0]["retrieval"].numpy()
    query = np.concatenate([[0 * query[0]], query])
    trained = range(1, len(query))
    width = query.shape[1]
    found = exported.by_session("embed_queries", {
        "user_id": np.array(["nobody", ""], object),
        "history": lists(["", items[0], "nothing", items[1]], items[2:])})
    wanted = np.array([by_who_likes(pool, query, trained, codes)
                       for codes in ([5, 10], [12])])
    # A linear block answers for itself; others' taste counts by its norm.
    linear = found["embedding"][:, width:]
    if linear.shape[1]:
        mean = by_who_likes(pool, query, trained, [0])
        wanted = 0.25 * mean + 4 * (wanted - mean)  # BlockOptions.popular
        norms = np.linalg.norm(PoolScorer.of(
            exported.model, pool).linear_block().queries, axis=1)
        wanted *= np.linalg.norm(linear, axis=1, keepdims=True) / norms[
            norms > 0].mean()
    np.testing.assert_allclose(
        found["embedding"][:, :width], wanted, atol=1e-5)
    lists_of = exported.by_session("recommend", {
        "user_id": np.array(["nobody"], object), "history": lists(items[:2]),
        "exclude": lists(items[:2])})
    candidate = exported.blocks(pool.user_ids)[1]["retrieval"].numpy()[1:]
    scores = candidate @ found["embedding"][0]
    scores[[4, 9]] = -np.inf
    np.testing.assert_allclose(
        lists_of["scores"][0], np.sort(scores)[::-1][:K], atol=1e-5)


def test_a_user_whose_labels_never_trained_is_a_stranger(shop):
    """As after `retrain --only-grow`: rows are there, the id is cold."""
    pool = Pool.from_interactions(shop, initial=0.5, seed=0)
    model = TwoTower.from_interactions(
        shop, embedding_dim=4, query_columns=["segment"], linear_block=None)
    model.compile()
    model.fit(pool.sequence(64), epochs=2, verbose=0)
    indptr, items = pool.histories()
    new = np.flatnonzero(np.diff(indptr) > 1)[:2]
    model.query_tower.warm.scatter_update(
        tf.IndexedSlices([0.0, 0.0], new))
    scorer = PoolScorer(model, pool)
    query, candidate = scorer.vectors("retrieval")
    serving = ServingModel(scorer, build_index(candidate[1:], kind="exact"))
    trained = np.setdiff1d(np.arange(1, 41), new)
    expected = [by_who_likes(pool, query, trained.tolist(),
                             items[indptr[u]:indptr[u + 1]].tolist())
                for u in new]
    users = tf.constant(pool.user_ids[new - 1].astype(str))
    found = serving.functions["embed_queries"](users)["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    scores = serving.functions["recommend"](users)["scores"].numpy()
    np.testing.assert_allclose(
        scores[:, 0], (expected @ candidate[1:].T).max(1), atol=1e-5)


def test_an_unknown_user_gets_the_popular_items(exported):
    popular = np.argsort(-exported.pool.item_traffic[1:], kind="stable")
    first = exported.pool.item_ids[popular].astype(str)
    known = exported.pool.user_ids[0]
    found = exported.by_session("recommend", {
        "user_id": np.array(["nobody", known, ""], object),
        "exclude": lists([first[1]], [], [first[0], first[2]])})
    ids = found["item_ids"].astype(str)
    assert ids[0].tolist() == [first[0], *first[2:K + 1]]
    assert ids[2].tolist() == [first[1], *first[3:K + 2]]
    alone = exported.by_session("recommend", {
        "user_id": np.array([known], object)})
    assert ids[1].tolist() == alone["item_ids"][0].astype(str).tolist()
    assert np.all(np.diff(found["scores"], axis=1) <= 0)


def test_a_user_who_was_never_trained_counts_as_unknown(shop):
    pool = Pool.from_interactions(shop, initial=10, seed=0)
    trained = pool.user[pool.labelled_rows()]
    model = TwoTower.from_interactions(
        shop, embedding_dim=4, query_columns=[])
    model.compile()
    model.fit(pool.sequence(), verbose=0)
    scorer = PoolScorer(model, pool)
    vectors = scorer.vectors("retrieval")[1][1:]
    serving = ServingModel(scorer, build_index(vectors, kind="exact"))
    new = np.setdiff1d(np.arange(1, 41), trained)[:3]
    users = tf.constant([*pool.user_ids[new - 1], "nobody"])
    found = serving.functions["recommend"](users)["item_ids"].numpy()
    assert (found == found[-1]).all()


@pytest.mark.parametrize("user", [0, None])
def test_excluded_items_never_come_back(exported, user):
    user = "nobody" if user is None else exported.pool.user_ids[user]
    items = exported.pool.item_ids
    found = exported.by_session("recommend", {
        "user_id": np.array([user] * 2, object),
        "exclude": lists(items[2:], items)})
    ids = found["item_ids"].astype(str)
    assert set(ids[0]) == {*items[:2], ""} and set(ids[1]) == {""}
    assert np.isfinite(found["scores"]).sum() == 2


def test_an_empty_batch_has_empty_answers(exported):
    none = np.zeros([0], object)
    found = exported.by_session("recommend", {"user_id": none})
    assert found["item_ids"].shape == (0, K)


def test_rows_must_agree(exported):
    with pytest.raises(tf.errors.InvalidArgumentError,
                       match="`user_id` with.*2.*rows beside.*3"):
        exported.by_session("recommend", {
            "user_id": np.array(["a", "b"], object),
            "history": lists(["a"], ["b"], ["c"])})


def test_text_finds_and_embeds(texts):
    words = np.array(["blue chair", ""], object)
    model = texts.model
    vector = model.query_tower.standardise(
        model.candidate_tower.encoder(tf.constant(words[:1])))
    query = tf.split(model.query_tower.search(vector), 2, axis=1)[1].numpy()
    found = texts.by_session("search", {"text": words})
    candidates = texts.blocks([])[1]["retrieval"].numpy()[1:]
    order = np.argsort(-(query @ candidates.T)[0], kind="stable")[:K]
    assert np.array_equal(found["item_ids"][0].astype(str),
                          texts.pool.item_ids[order].astype(str))
    recommended = texts.by_session("recommend", {"user_id": words[1:]})
    assert np.array_equal(found["item_ids"][1], recommended["item_ids"][0])
    found = texts.by_session("embed_queries", {"text": words})
    np.testing.assert_allclose(found["embedding"][:1], query, atol=1e-5)


def test_a_new_item_is_embedded_by_its_text(texts):
    item = texts.pool.item_ids[0]
    words = np.array(["blue chair"] * 2, object)
    found = texts.by_session("embed_candidates", {
        "item_id": np.array([item, "new"], object), "text": words})
    candidates = texts.blocks([])[1]["retrieval"].numpy()
    expected = texts.model.embed_candidates({
        "item_id": tf.constant(["new"]),
        "item_text": tf.constant(words[:1])})["retrieval"]
    np.testing.assert_allclose(found["embedding"][0], candidates[1],
                               atol=1e-5)
    np.testing.assert_allclose(found["embedding"][1:], expected, atol=1e-5)
    only = texts.by_session("embed_candidates", {"text": words[:1]})
    np.testing.assert_allclose(only["embedding"], expected, atol=1e-5)


def test_optional_inputs_have_defaults_in_the_signature(texts):
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((texts.path / "saved_model.pb").read_bytes())
    optional = {name: set(signature.defaults) for name, signature
                in model.meta_graphs[0].signature_def.items()
                if not name.startswith("__")}
    both = {"history", "exclude"}
    assert optional == {
        "serving_default": both, "recommend": both, "score": {"history"},
        "rank": {"user_id", "history", "item_id", "text"},
        "search": {"user_id", "exclude"},
        "embed_queries": {"user_id", "history", "text"},
        "embed_candidates": {"item_id", "text"}}


def test_the_manifest_and_the_ops(texts, no_texts):
    manifest = read_manifest(texts.path)
    assert manifest["version"] == 1 and manifest["k"] == K
    assert manifest["metrics"] == {"val_rmse": 1.0}
    assert manifest["stack"]["tensorflow"] == tf.__version__
    assert set(manifest["ops"].values()) == {"tensorflow-text"}
    assert manifest["servers"] == list(op_audit.SERVERS)
    assert read_manifest(no_texts.path)["ops"] == {}
    assert manifest["index"]["kind"] == "exact"


def test_warm_up_records_name_every_signature(texts):
    path = texts.path / "assets.extra" / WARM_UP
    found = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        assert request.model_spec.name == "shop"
        # A stock server that batches refuses inputs of unequal length.
        assert len({tensor.tensor_shape.dim[0].size
                    for tensor in request.inputs.values()}) == 1
        found.setdefault(request.model_spec.signature_name, []).append(
            request.inputs)
    assert set(found) == set(read_manifest(texts.path)["signatures"])


def test_training_weights_stay_behind(of_ours):
    """What was trained is there once, as vectors; no tower, no optimizer."""
    saved = tf.train.load_checkpoint(
        str(of_ours.path / "variables" / "variables"))
    shapes = saved.get_variable_to_shape_map()
    floats = sum(int(np.prod(shape)) for name, shape in shapes.items()
                 if "encoder" not in name and shape)
    users, items = 41, 31
    # Own part, history and bias of users; history table, rows of strangers
    # two blocks and popularity of items; vectors of the index; kernels of
    # texts.
    tables = users * (8 + 8 + 1) + items * (8 + 4 + 4 + 6 + 1) + 30 * 4
    assert tables <= floats <= tables + 350 + 32 * (8 + 8 + 1) + 1
    assert not [name for name in shapes if "tower" in name
                or "optimizer" in name or "id_table" in name]


def test_a_version_number_is_never_used_again(no_texts, tmp_path):
    folder = tmp_path / "shop"

    def make():
        return export_model(no_texts.model, folder, pool=no_texts.pool, k=K)

    assert make().name == "1"
    folder.joinpath("7").mkdir()
    assert make().name == "8"
    (folder / "8").rename(tmp_path / "gone")
    assert make().name == "9"


@pytest.mark.large
def test_the_working_folder_has_a_name(no_texts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = export_model(no_texts.model, ".", pool=no_texts.pool, k=K)
    assert read_manifest(path)["model"] == tmp_path.name


def test_an_interrupted_export_is_not_seen(no_texts, tmp_path, monkeypatch):
    folder = tmp_path / "shop"

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", stop)
    with pytest.raises(KeyboardInterrupt):
        export_model(no_texts.model, folder, pool=no_texts.pool, k=K)
    assert not [p for p in folder.iterdir() if p.name[0] != "."]
    monkeypatch.undo()
    made = export_model(no_texts.model, folder, pool=no_texts.pool, k=K)
    assert [p for p in folder.iterdir() if p.name[0] != "."] == [made]
    assert not list(folder.glob(".*.swap"))


@pytest.mark.parametrize("options, message", [
    ({"server": "torch"}, "one of stock, scann, tfrecal"),
    ({"server": "stock", "index": "scann"}, "no ScaNN ops")])
def test_a_server_that_cannot_run_it_is_refused_first(
        no_texts, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_model(no_texts.model, tmp_path / "m", pool=no_texts.pool,
                     **options)
    assert not list(tmp_path.iterdir())


@tf_keras.utils.register_keras_serializable(package="tests")
class Wider(QueryTower):
    """A tower with two more parts: one of the id, one of the history."""

    def _make_weights(self):
        super()._make_weights()
        self.mood = self._weight("mood", [self.num_ids + 1, 8])
        self.second = self._weight("second", [self.num_items + 1, 8])

    def stored_parts(self, features, training=False, text=None):
        found = super().stored_parts(features, training, text)
        codes = features["user_id"]
        return {**found, "mood": tf.gather(self.mood, codes)}

    def request_parts(self, vectors=None):
        return {**super().request_parts(vectors),
                "second": HistoryPart(self.second)}


@pytest.mark.parametrize("space", [" ", "\t\n", "\xa0", "\u3000", "\x1c"])
def test_white_space_around_ids_is_cut(exported, space):
    user, item = exported.pool.user_ids[3], exported.pool.item_ids[2:6]
    given = {"user_id": [user], "history": [item[:2]], "exclude": [item[2:]]}
    answers = []
    for around in ("", space):
        inputs = {name: np.char.add(np.char.add(
            around, np.array(ids, str)), around).astype(object)
            for name, ids in given.items()}
        pair = {"user_id": inputs["user_id"],
                "item_id": inputs["history"][:, 0]}
        found = [exported.by_session("recommend", inputs),
                 exported.by_session(
                     "recommend", {"user_id": inputs["user_id"]}),
                 exported.by_session("score", pair),
                 exported.by_session("embed_candidates", {
                     "item_id": pair["item_id"]})]
        answers.append([value for one in found for value in one.values()])
    for clean, spaced in zip(*answers):
        np.testing.assert_array_equal(clean, spaced)


def test_a_new_part_of_a_tower_is_served_without_a_second_edit(shop):
    pool = Pool.from_interactions(shop, initial=0.9, seed=0)
    plain = TwoTower.from_interactions(shop, embedding_dim=4, dropout=0.1)
    model = TwoTower(
        Wider.from_table(shop.users, item_ids=shop.item_ids, embedding_dim=4,
                         dropout=0.1, seed=1),
        plain.candidate_tower, plain.tasks)
    model.compile(learning_rate=0.02)
    model.fit(pool.sequence(64), epochs=2, verbose=0)
    scorer = PoolScorer(model, pool)
    query, candidate = scorer.vectors("retrieval")
    serving = ServingModel(scorer, build_index(candidate[1:], kind="exact"))
    known = np.flatnonzero(np.diff(pool.histories()[0]) > 0)[:5]
    users = pool.user_ids[known - 1].tolist()
    history = lists(shop.item_ids[:2], shop.item_ids[3:6], [], [], [])
    found = serving.functions["embed_queries"](
        tf.constant(users), tf.constant(history))["embedding"]
    np.testing.assert_allclose(found[2:], query[known[2:]], atol=1e-5)
    expected = model.embed_queries({
        "user_id": tf.constant(users[:2]),
        "history": tf.constant(history[:2])})["retrieval"]
    np.testing.assert_allclose(found[:2], expected, atol=1e-5)
    # Both parts count: they were trained, and are no zeros.
    assert np.abs(model.query_tower.mood).max() > 0.1
    pairs = pool.user[:9], pool.item[:9]
    score = serving.functions["score"](
        tf.constant(pool.user_ids[pairs[0] - 1].tolist()),
        tf.constant(pool.item_ids[pairs[1] - 1].tolist()))
    np.testing.assert_allclose(
        score["rating"], scorer.predict(*pairs), atol=1e-5)
