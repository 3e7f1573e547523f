"""Growth of a model: old ids keep what was learned, new ones are cold."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tables import read

from tfrecal.model.tasks import Rating, Retrieval
from tfrecal.model.transfer import Joined, Transferred, transfer
from tfrecal.model.two_tower import TwoTower
from tfrecal.text.encoder import TextEncoder

COLUMNS = {"query_columns": ["segment", "country"],
           "candidate_columns": ["category"]}
# What the old model has and the grown tables lack.
ERASED_USER, ERASED_ITEM = "u01", "i02"


def part(shop, users, items):
    """The shop with some of its users and items, in the order given."""
    users, items = shop.users.loc[users], shop.items.loc[items]
    frame = shop.frame[shop.frame["user_id"].isin(users.index)
                       & shop.frame["item_id"].isin(items.index)]
    return read(frame, users, items, scale=shop.scale)


def model_of(data, encoder=None, **options):
    return TwoTower.from_interactions(
        data, encoder=encoder, **{"embedding_dim": 4, "dropout": 0.1,
                                  **COLUMNS, **options})


def tuned(folder):
    return TextEncoder(str(folder), tuning="top_n", top_n=1)


def answers(model, users, items):
    """Predicted labels and retrieval scores of pairs, `[users, items]`."""
    query = model.embed_queries({
        "user_id": tf.constant(users),
        "history": tf.constant([[items[0], items[2]]] * len(users))})
    candidate = model.embed_candidates({"item_id": tf.constant(items)})
    return [model.predict_label(tf.matmul(
        query["rating"], candidate["rating"], transpose_b=True)).numpy(),
        tf.matmul(query["retrieval"], candidate["retrieval"],
                  transpose_b=True).numpy()]


@pytest.fixture(scope="module")
def old(shop, tiny_bert_folder):
    """As if trained on the first users and items: nothing is fresh."""
    data = part(shop, shop.user_ids[:32], shop.item_ids[:24])
    model = model_of(data, tuned(tiny_bert_folder))
    rng = np.random.default_rng(0)
    for tower in (model.query_tower, model.candidate_tower):
        for weight in (*tower.trainable_weights, tower.text_centre):
            weight.assign(weight + rng.normal(0, 0.3, weight.shape))
        tower.text_norm.assign(2 * tower.text_norm)
        tower.warm.assign(np.r_[0, rng.integers(0, 2, len(tower.ids))])
        tower.step.assign(int(rng.integers(1, 100)))
    model.task(Rating).offset.assign(2.5)
    return model


@pytest.fixture(scope="module")
def grown(shop):
    """Two ids erased, the others in another order."""
    rng = np.random.default_rng(0)
    users = rng.permutation(np.setdiff1d(shop.user_ids, [ERASED_USER]))
    items = rng.permutation(np.setdiff1d(shop.item_ids, [ERASED_ITEM]))
    return part(shop, users, items)


@pytest.fixture(scope="module")
def pair(old, grown, tiny_bert_folder):
    """A fresh model's weights, the model after `transfer`, and its counts."""
    new = model_of(grown, tuned(tiny_bert_folder), seed=5)
    fresh = {side: {w.name: w.numpy() for w in getattr(new, side).weights
                    if w.name in ("id_table:0", "history_table:0", "warm:0")}
             for side in ("query_tower", "candidate_tower")}
    return fresh, new, transfer(old, new)


def kept(old, grown):
    users, items = old.query_tower.ids, old.candidate_tower.ids
    return ([u for u in users if u != ERASED_USER],
            [i for i in items if i != ERASED_ITEM])


def test_old_pairs_are_answered_as_before(shop, old, grown, pair):
    new = pair[1]
    users, items = kept(old, grown)
    for before, after in zip(answers(old, users, items),
                             answers(new, users, items)):
        assert before.std() > 0.1
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    assert float(new.task(Rating).offset) == float(old.task(Rating).offset)
    text = {"search_text": tf.constant(shop.items["title"].tolist()[:3])}
    np.testing.assert_allclose(
        new.embed_queries(text)["retrieval"],
        old.embed_queries(text)["retrieval"], rtol=1e-4, atol=1e-5)


def test_rows_go_by_id(old, grown, pair):
    for side in ("query_tower", "candidate_tower"):
        before, after = getattr(old, side), getattr(pair[1], side)
        assert int(after.step) == int(before.step)
        for name in ("id_table", "bias_table", "warm"):
            was, now = (getattr(t, name).numpy() for t in (before, after))
            for place, id_ in enumerate(after.ids):
                if id_ in before.ids:
                    np.testing.assert_array_equal(
                        now[place + 1], was[before.ids.index(id_) + 1])
    before, after = old.query_tower, pair[1].query_tower
    for place, id_ in enumerate(after.item_ids):
        if id_ in before.item_ids:
            np.testing.assert_array_equal(
                after.history_table[place + 1],
                before.history_table[before.item_ids.index(id_) + 1])


def test_new_ids_are_as_in_a_fresh_model(old, pair):
    fresh, new, _ = pair
    for side in ("query_tower", "candidate_tower"):
        tower = getattr(new, side)
        rows = [place + 1 for place, id_ in enumerate(tower.ids)
                if id_ not in getattr(old, side).ids]
        assert rows and not tower.warm.numpy()[rows].any()
        np.testing.assert_array_equal(
            tower.id_table.numpy()[rows],
            fresh[side]["id_table:0"][rows])


def test_a_new_item_is_what_its_text_and_columns_say(shop, old, pair):
    """The old model gives the same vector to an item that it has not met."""
    item = shop.items.index[-1]
    tower = old.candidate_tower
    assert item not in tower.ids
    row = shop.items.loc[item]
    place = pair[1].candidate_tower.ids.index(item)
    cold = old.embed_candidates({
        "item_id": tf.constant([item]),
        "item_text": tf.constant([pair[1].candidate_tower.texts[place]]),
        "category": tf.constant([row["category"]])})
    now = pair[1].embed_candidates({"item_id": tf.constant([item])})
    for block in ("rating", "retrieval"):
        assert np.abs(cold[block][:, :4]).max() > 1e-4
        np.testing.assert_allclose(now[block], cold[block], rtol=1e-4,
                                   atol=1e-5)


def test_nothing_of_an_erased_id_is_left(old, pair):
    new = pair[1]
    gone = old.query_tower.ids.index(ERASED_USER) + 1
    item = old.candidate_tower.ids.index(ERASED_ITEM) + 1
    for tower, name, code in (
            ("query_tower", "id_table", gone),
            ("candidate_tower", "id_table", item),
            ("query_tower", "history_table", item)):
        row = getattr(getattr(old, tower), name).numpy()[code]
        table = getattr(getattr(new, tower), name).numpy()
        assert not (table == row).all(axis=1).any()
    assert pair[2] == Transferred(
        users=Joined(kept=31, new=8, left=1),
        items=Joined(kept=23, new=6, left=1))


def test_training_the_new_model_cannot_change_the_old(old, pair):
    new = pair[1]
    assert not ({w.ref() for w in old.weights}
                & {w.ref() for w in new.weights})
    new.compile()
    assert int(new.optimizer.iterations) == 0


def small(users, items, **options):
    """A model without text over two made-up tables."""
    data = read(pd.DataFrame({"user_id": users.index[:1], "label": 3,
                              "item_id": items.index[:1]}),
                users, items, scale=(1, 5))
    return TwoTower.from_interactions(data, **{
        "query_columns": ["age"], "candidate_columns": ["genre"],
        "embedding_dim": 2, **options})


def tables(ages, genres):
    return (pd.DataFrame({"age": ages},
                         index=[f"u{n}" for n in range(len(ages))]),
            pd.DataFrame({"genre": genres},
                         index=[f"i{n}" for n in range(len(genres))]))


def test_category_rows_go_by_value():
    old = small(*tables([20.0], ["Drama|War", "Comedy"]))
    new = small(*tables([20.0], ["Comedy|Action", "War", "Horror"]), seed=3)
    fresh = new.candidate_tower.category_kernel.numpy()
    transfer(old, new)
    known = old.candidate_tower.category_kernel.numpy()
    # Action, Comedy, Horror, War; before: Comedy, Drama, War.
    np.testing.assert_array_equal(
        new.candidate_tower.category_kernel,
        [fresh[0], known[0], fresh[2], known[2]])


def test_bins_that_moved_get_the_mean_of_what_their_rows_had():
    ages = np.r_[10.0:15.0, 50.0:55.0]
    old = small(*tables(ages, ["a"]))
    new = small(*tables(np.r_[ages, 15.0:50.0, 55.0:60.0], ["a"]), seed=3)
    tower, grown = old.query_tower, new.query_tower
    before = tower.categories.columns["age"]
    after = grown.categories.columns["age"]
    transfer(old, new)
    old_bin = np.searchsorted(before, ages, side="right")
    new_bin = np.searchsorted(after, ages, side="right")
    known, kernel = (t.category_kernel.numpy() for t in (tower, grown))
    assert before != after and len(set(old_bin)) > len(set(new_bin)) > 1
    for number in range(len(after) + 1):
        rows = known[old_bin[new_bin == number]]
        if not len(rows):  # as the old bin of its lower end
            rows = known[[np.searchsorted(
                before, after[number - 1], side="right")]]
        np.testing.assert_allclose(
            kernel[number], rows.mean(axis=0), rtol=1e-5)


def test_bins_that_did_not_move_keep_their_rows():
    """Whoever is in them: here, the ages of two users were corrected."""
    old = small(*tables([10.0, 20, 30, 40], ["a"]))
    new = small(*tables([40.0, 20, 30, 10], ["a"]), seed=3)
    transfer(old, new)
    np.testing.assert_array_equal(new.query_tower.category_kernel,
                                  old.query_tower.category_kernel)


@pytest.mark.parametrize("options, message", [
    ({"embedding_dim": 3}, "query_tower.embedding_dim 2 in `old`, 3 in"),
    ({"query_columns": []}, r"columns of query_tower \{'age'"),
    ({"tasks": [Retrieval()]}, "rating task .*'mse'.* in `old`, None"),
    ({"tasks": [Rating(scale=(0, 1))]}, "rating task .*1.0, 5.0")])
def test_models_that_do_not_fit_are_refused(options, message):
    both = tables([20.0, 30], ["a", "b"])
    old, new = small(*both), small(*both, **options)
    before = [w.numpy() for w in new.weights]
    with pytest.raises(ValueError, match=message):
        transfer(old, new)
    for weight, was in zip(new.weights, before):
        np.testing.assert_array_equal(weight, was)


def test_encoders_that_do_not_fit_are_refused(old, grown, tiny_bert_folder):
    with pytest.raises(ValueError, match="encoder of query_tower .* None"):
        transfer(old, model_of(grown))
    frozen = TextEncoder(str(tiny_bert_folder), tuning="frozen")
    with pytest.raises(ValueError, match="'tuning': 'frozen'"):
        transfer(old, model_of(grown, frozen))
    with pytest.raises(ValueError, match="training `new` would change `old`"):
        transfer(old, model_of(grown, old.candidate_tower.encoder))
