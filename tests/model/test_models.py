"""Towers, tasks and the model against plain NumPy and closed forms."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras

from tfrecal.data.templates import Template, default_template
from tfrecal.model.tasks import Pairwise, Rating, Retrieval, Search
from tfrecal.model.towers import CandidateTower
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.text.encoder import TextEncoder

rng = np.random.default_rng(0)
LOG_Q = np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32))


def batch(labels=(5, 4, 5, 1, 4), items=(1, 2, 1, 3, 4)):
    items = np.array(items, np.int32)
    return {"label": np.array(labels, np.float32),
            "weight": np.ones(len(labels), np.float32),
            "item_id": items, "user_id": np.arange(len(items)) % 2,
            "positive": np.array(labels) >= 4, "log_q": LOG_Q[items - 1]}


@pytest.fixture
def vectors():
    return [rng.normal(size=(5, 3)).astype(np.float32) for _ in range(2)]


def test_retrieval_is_softmax_over_positives_without_hits(vectors):
    query, candidate = vectors
    data = batch()
    loss = Retrieval(temperature=0.5)(query, candidate, data)
    keep = [0, 1, 2, 4]
    item = data["item_id"]
    expected = []
    for i in keep:
        others = [j for j in keep if j == i or item[j] != item[i]]
        score = {j: query[i] @ candidate[j] / 0.5 - data["log_q"][j]
                 for j in others}
        expected.append(np.log(np.exp(list(score.values())).sum())
                        - score[i])
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-4)


def test_positive_aware_leaves_the_positive_alone(vectors):
    query, candidate = vectors
    data = batch()
    loss = Retrieval(log_q="positive_aware")(query, candidate, data)
    keep = [0, 1, 2, 4]
    item, q = data["item_id"], np.exp(data["log_q"])
    expected = []
    for i in keep:
        others = [j for j in keep if item[j] != item[i]]
        weight = [np.exp(query[i] @ candidate[j]) * (1 - q[i]) / q[j]
                  for j in others]
        positive = query[i] @ candidate[i]
        missed = 1 / (1 + np.exp(positive - np.log(np.mean(weight))))
        expected.append(missed * (np.log(np.sum(weight)) - positive))
    np.testing.assert_allclose(loss, np.mean(expected), rtol=1e-4)


def test_labelled_negatives_do_not_touch_retrieval(vectors):
    query, candidate = vectors
    loss = Retrieval()(query, candidate, batch())
    query[3], candidate[3] = 9, -9
    again = Retrieval()(query, candidate, batch())
    np.testing.assert_allclose(loss, again)
    assert Rating()(query, candidate, batch()) > 100


def test_a_batch_without_positives_gives_no_loss(vectors):
    for log_q in ("standard", "positive_aware", None):
        loss = Retrieval(log_q=log_q)(*vectors, batch([1] * 5))
        assert float(loss) == 0.0


def test_pairwise_is_bpr_over_a_users_labels(vectors):
    query, candidate = vectors
    data = batch()
    score = (query * candidate).sum(axis=1)
    expected = [np.log1p(np.exp(score[j] - score[i]))
                for i in range(5) for j in range(5)
                if data["user_id"][i] == data["user_id"][j]
                and data["label"][i] > data["label"][j]]
    np.testing.assert_allclose(
        Pairwise()(query, candidate, data), np.mean(expected), rtol=1e-5)


def test_rating_is_mean_squared_error_in_quarters_of_the_scale(vectors):
    query, candidate = vectors
    task = Rating(scale=(1, 9), mean=3.0)
    error = (query * candidate).sum(axis=1) + 3 - batch()["label"]
    np.testing.assert_allclose(
        task(query, candidate, batch()), np.mean((error / 2) ** 2),
        rtol=1e-5)
    np.testing.assert_allclose(task.predict(np.float32([-99, 99])), [1, 9])


def test_binary_labels_give_probabilities(vectors):
    task = Rating("binary_crossentropy", (0, 1), mean=0.2)
    np.testing.assert_allclose(task.predict(np.float32(0)), 0.2, rtol=1e-5)
    data = batch([1, 0, 1, 0, 1])
    p = task.predict((vectors[0] * vectors[1]).sum(axis=1)).numpy()
    y = data["label"]
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    np.testing.assert_allclose(task(*vectors, data), expected, rtol=1e-4)


@pytest.mark.parametrize("make", [
    lambda: Rating("huber"), lambda: Retrieval(temperature=0),
    lambda: Retrieval(log_q="yes"), lambda: Rating(weight=0),
    lambda: Rating(scale=(2, 2)), lambda: Rating(scale=(5, 1))])
def test_wrong_options_are_named(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_strings_and_codes_mean_the_same(shop):
    tower = CandidateTower.from_table(shop.items, embedding_dim=4)
    tower.warm.assign(tf.ones_like(tower.warm))
    codes = np.array([1, 3, 0], np.int32)
    names = np.array([*shop.item_ids[[0, 2]], "never seen"], object)
    for block in ("rating", "retrieval"):
        np.testing.assert_array_equal(
            tower({"item_id": codes})[block], tower({"item_id": names})[block])


def test_an_untrained_id_counts_as_unknown(shop):
    tower = CandidateTower.from_table(shop.items, embedding_dim=4)
    parts = tower.parts({"item_id": np.array([2], np.int32)})
    assert not parts["id"].numpy().any() and parts["category"].numpy().any()
    tower({"item_id": np.array([2], np.int32)}, training=True)
    parts = tower.parts({"item_id": np.array([2, 3], np.int32)})
    assert parts["id"].numpy().any(axis=1).tolist() == [True, False]


def test_a_cold_item_is_described_by_its_columns(shop):
    tower = CandidateTower.from_table(shop.items, embedding_dim=4)
    row = shop.items.iloc[0]
    features = {name: np.array([row[name]]) for name
                in tower.categories.columns}
    hot = tower.categories(features).numpy()
    np.testing.assert_array_equal(hot[0], tower._rows[1])
    known = tower({"item_id": np.array([1], np.int32)})["retrieval"]
    new = tower({"item_id": np.array(["new"]), **features})["retrieval"]
    np.testing.assert_allclose(known, new, atol=1e-6)


def test_tower_config_round_trip(shop, tmp_path):
    tower = CandidateTower.from_table(shop.items, embedding_dim=4, seed=3)
    config = tf_keras.saving.serialize_keras_object(tower)
    copy = tf_keras.saving.deserialize_keras_object(config)
    # The catalogue is no part of a config.
    assert len(json.dumps(config)) < 2000 and copy.num_ids == 30
    feature = {"item_id": np.array([1, 2], np.int32)}
    with pytest.raises(ValueError, match="which no config holds"):
        copy(feature)
    tower.save_assets(tmp_path)
    copy.load_assets(tmp_path)
    np.testing.assert_array_equal(
        tower(feature)["rating"], copy(feature)["rating"])
    names = {"item_id": np.array([*shop.item_ids[:2], "nothing"])}
    np.testing.assert_array_equal(
        tower(names)["rating"], copy(names)["rating"])


def test_tasks_need_names_of_their_own(shop):
    with pytest.raises(ValueError, match="at least one task"):
        TwoTower.from_interactions(
            shop, tasks=[Rating(name="a"), Retrieval(name="a")])


@pytest.mark.large
def test_the_encoder_has_its_own_optimizer(shop, tiny_bert_folder):
    encoder = TextEncoder(str(tiny_bert_folder), tuning="top_n", top_n=1)
    model = TwoTower.from_interactions(
        shop, encoder=encoder, embedding_dim=4)
    still = tf_keras.optimizers.SGD(0.0)
    model.compile(encoder_optimizer=still)
    before = [w.numpy() for w in encoder.trainable_weights]
    kernel = model.candidate_tower.text_kernel.numpy()
    pool = Pool.from_interactions(shop, initial=0.3)
    model.fit(pool.sequence(64), epochs=1, verbose=0)
    assert before and int(still.iterations) > 0
    for weight, old in zip(encoder.trainable_weights, before):
        np.testing.assert_array_equal(weight, old)
    assert np.abs(model.candidate_tower.text_kernel - kernel).max() > 0
    model.compile(encoder_learning_rate=1e-2)
    model.fit(pool.sequence(64), epochs=1, verbose=0)
    assert any(np.abs(w - old).max() > 0 for w, old
               in zip(encoder.trainable_weights, before))


def test_fit_before_compile_names_the_cure(shop):
    model = TwoTower.from_interactions(shop)
    with pytest.raises(RuntimeError, match="must compile your model.*5e-3"):
        model.fit(Pool.from_interactions(shop).sequence(64))


def test_one_callback_and_optimizers_by_name(shop, tiny_bert_folder):
    """As Keras' own models take them."""
    model = TwoTower.from_interactions(shop, encoder=TextEncoder(
        str(tiny_bert_folder), tuning="bitfit"), embedding_dim=4)
    model.compile("adam", "sgd", encoder_every=2)
    seen = []
    pool = Pool.from_interactions(shop, initial=0.3)
    model.fit(pool.sequence(64), verbose=0, callbacks=(
        tf_keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append(epoch))))
    assert seen == [0]
    assert isinstance(model.encoder_optimizer, tf_keras.optimizers.SGD)


@pytest.mark.parametrize("tuning", [
    None, "lora", pytest.param("top_n", marks=pytest.mark.large)])
def test_a_saved_model_is_loaded_whole(
        shop, tiny_bert_folder, tmp_path, tuning):
    encoder = tuning and TextEncoder(str(tiny_bert_folder), tuning=tuning)
    model = TwoTower.from_interactions(shop, encoder=encoder, embedding_dim=4)
    model.compile(encoder_learning_rate=1e-2)
    pool = Pool.from_interactions(shop, initial=0.3)
    model.fit(pool.sequence(64), verbose=0)
    model.save(tmp_path / "model.keras")
    again = tf_keras.models.load_model(tmp_path / "model.keras")
    assert again.query_tower.encoder is again.candidate_tower.encoder
    asked = {"user_id": tf.constant(shop.user_ids[:9].astype(str)),
             "item_id": tf.constant(shop.item_ids[:9].astype(str))}
    np.testing.assert_array_equal(model(asked), again(asked))
    if tuning:
        texts = {"search_text": tf.constant(["a blue chair"])}
        for one, two in zip(*(m.embed_queries({
                **texts, "user_id": tf.constant([""])}).values()
                for m in (model, again))):
            np.testing.assert_array_equal(one, two)
    again.compile()
    again.fit(pool.sequence(64), verbose=0)


class Late(Rating):
    """A task of a user's, with weights that are made at its first call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = tf_keras.layers.Dense(1)

    def call(self, query, candidate, batch):
        return super().call(query + self.dense(query), candidate, batch)


@pytest.mark.parametrize("task, times", [(Rating, 1), (Late, 2)])
def test_a_step_is_traced_once(shop, task, times):
    """Twice only where it makes weights."""
    model = TwoTower.from_interactions(shop, tasks=[task(name="rating")])
    model.compile()
    traced, step = [], model.train_step
    model.train_step = lambda inputs: traced.append(1) or step(inputs)
    pool = Pool.from_interactions(shop, initial=300, seed=0)
    for _ in range(2):
        model.fit(pool.sequence(128), epochs=1, verbose=0)
    assert len(traced) == times


def test_search_text_finds_the_item_that_it_describes(shop, tiny_bert_folder):
    """Trained by `fit`, without labels of searches."""
    def place(model):
        items = model.embed_candidates(
            {"item_id": shop.item_ids})["retrieval"].numpy()
        found = model.embed_queries(
            {"search_text": tf.constant(texts)})["retrieval"].numpy()
        scores = found @ items.T
        return np.mean([(row > row[i]).sum() for i, row in enumerate(scores)])

    texts = default_template(shop.items)(shop.items)
    model = TwoTower.from_interactions(shop, encoder=TextEncoder(
        str(tiny_bert_folder), tuning="frozen"))
    model.compile()
    before = place(model)
    model.fit(Pool.from_interactions(shop, initial=1.0).sequence(64),
              epochs=10, verbose=0)
    assert place(model) < 3 < before


def test_a_search_without_an_encoder_is_refused(shop):
    with pytest.raises(ValueError, match="a model that reads texts"):
        TwoTower.from_interactions(shop).embed_queries(
            {"search_text": tf.constant(["chair"]),
             "user_id": tf.constant([""])})


def test_texts_that_are_all_the_same(shop, tiny_bert_folder):
    """They have no spread by which to scale what differs from them."""
    items = pd.DataFrame({"title": ["blue chair"] * 30},
                         index=shop.items.index[:30])
    encoder = TextEncoder(str(tiny_bert_folder), tuning="top_n")
    tower = CandidateTower.from_table(
        items, encoder=encoder, template=Template("{title}"), columns=[])
    vector = tower.text_vectors({
        "item_id": tf.constant([""]), "item_text": tf.constant(["a lamp"])})
    assert 0 < np.linalg.norm(vector) < 1


def test_a_policy_of_mixed_precision_is_refused(shop, tiny_bert_folder):
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        with pytest.raises(ValueError, match='precision="bfloat16"'):
            TextEncoder(str(tiny_bert_folder))
        with pytest.raises(ValueError, match="computes in bfloat16"):
            TwoTower.from_interactions(shop)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


def test_search_needs_texts(shop):
    model = TwoTower.from_interactions(shop, tasks=[Search(name="search")])
    model.compile()
    with pytest.raises(ValueError, match="without them"):
        model.fit(Pool.from_interactions(shop, initial=1.0).sequence(64),
                  verbose=0)


def test_ids_with_few_labels_are_held_harder():
    """The penalty of a batch, by its definition."""
    tower = CandidateTower(
        ["a", "b", "c"], embedding_dim=2, id_dropout=0.0,
        retrieval_id_dropout=0.0, rating_l2=0.5, retrieval_l2=0.25,
        bias_l2=2.0, shrinkage=3.0)
    tower.bias_table.assign([0.0, 1.0, -2.0, 0.5])
    codes, labels = np.array([1, 2, 2]), np.array([1.0, 6, 6], np.float32)
    tower({"item_id": codes, "item_labels": labels}, training=True)
    table, bias = tower.id_table.numpy()[codes], np.array([1.0, -2, -2])
    scarce = 1 + 3.0 / labels
    expected = np.mean(scarce * (2.0 * bias ** 2 + table ** 2 @ np.array(
        [0.5, 0.5, 0.25, 0.25])))
    np.testing.assert_allclose(tower.losses[0], expected, rtol=1e-5)
    tower({"item_id": codes}, training=True)
    assert tower.losses[0] < expected


@pytest.mark.large  # makes a table of texts
def test_weights_have_the_names_of_before(shop, tiny_bert_folder, tmp_path):
    """Run folders of earlier versions are restored by these."""
    model = TwoTower.from_interactions(shop, embedding_dim=4, encoder=(
        TextEncoder(str(tiny_bert_folder), tuning="top_n", top_n=1)))
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "weights"))
    names = {name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
             for name, _ in tf.train.list_variables(path)
             if name.startswith("model/") and "/_" not in name}
    both = ("id_table", "bias_table", "category_kernel", "warm", "step",
            "text_kernel", "text_centre", "text_norm")
    assert {name for name in names if "/encoder/" not in name} == {
        *(f"model/{side}_tower/{name}" for side in ("query", "candidate")
          for name in both), "model/query_tower/history_table",
        "model/query_tower/search_kernel", "model/tasks/0/offset"}
    assert {name.rpartition("/")[0] for name in names
            if "/encoder/" in name} == {"model/query_tower/encoder/trained"}
