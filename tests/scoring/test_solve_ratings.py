"""Rating vectors that are solved lower the loss of training, to its least."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras
from plain_towers import make_towers

from tfrecal import (
    Interactions,
    PoolScorer,
    SolveRatings,
    choose_rating_l2,
    datasets,
    metrics,
    solve_ratings,
    splits,
)
from tfrecal.model.tasks import Rating, Retrieval
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool


@pytest.fixture(scope="module")
def split():
    return splits.random(
        datasets.load("shop", users=60, items=40, ratings=1500), seed=0)


def binary(split):
    """The same split with labels of 0 and 1."""
    def of(part):
        frame = part.frame.assign(label=(part.frame["label"] > 3) * 1.0)
        return Interactions(frame, part.users, part.items, scale=(0, 1))
    return splits.Split(*map(of, (split.train, split.validation, split.test)))


def trained(split, **options):
    pool = Pool.from_interactions(split.train, initial=1.0, seed=0)
    tf_keras.utils.set_random_seed(0)
    loss = "mse" if split.train.scale[1] > 1 else "binary_crossentropy"
    model = TwoTower.from_interactions(
        split.train, embedding_dim=8, tasks=[
            Rating(loss, split.train.scale, name="rating")], **options)
    for tower in (model.query_tower, model.candidate_tower):
        tower.id_dropout = 0.0
    model.compile(learning_rate=1e-2)
    model.fit(pool.sequence(256), epochs=2, verbose=0)
    return model, pool


def loss_of(model, pool, weights=None):
    """The training loss over all rows as one batch, and its slopes."""
    sequence = pool.sequence(len(pool), row_weights=weights)
    sequence.on_epoch_end()
    batch = sequence[0]
    # As scoring does, a history counts whole, with the row's own item.
    batch = {name: value for name, value in batch.items()
             if "history" not in name}
    tables = [table for tower in (model.query_tower, model.candidate_tower)
              for table in (tower.id_table, tower.bias_table)]
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True) + tf.add_n(
            model.losses)
    return float(loss), tape.gradient(loss, tables)


def without_histories(model):
    model.query_tower.history_table.assign(
        tf.zeros_like(model.query_tower.history_table))


@pytest.mark.parametrize("kind", ["ratings", "clicks"])
@pytest.mark.parametrize("weighed", [False, True])
def test_sweeps_lower_the_loss_of_training_to_where_it_is_flat(
        split, kind, weighed):
    model, pool = trained(split if kind == "ratings" else binary(split))
    without_histories(model)
    weights = np.random.default_rng(0).uniform(
        0.2, 3, len(pool)) if weighed else None
    before, slopes = loss_of(model, pool, weights)
    steepest = max(float(tf.reduce_max(tf.abs(
        tf.convert_to_tensor(slope)))) for slope in slopes)
    for _ in range(12):
        solve_ratings(model, pool, row_weights=weights)
        after, slopes = loss_of(model, pool, weights)
        assert after <= before + 1e-6
        before = after
    for slope in slopes:
        assert np.abs(tf.convert_to_tensor(slope)).max() < 0.02 * steepest


def test_what_lists_and_other_parts_are_made_of_stays(split):
    model, pool = trained(split)
    before = [weight.numpy() for weight in model.weights]
    scorer = PoolScorer.of(model, pool)
    lists = scorer.vectors("retrieval")
    solve_ratings(model, pool)
    changed = {weight.name.split("/")[-1].split(":")[0]
               for weight, old in zip(model.weights, before)
               if (old != weight.numpy()).any()}
    assert changed == {"id_table", "bias_table"}
    for one, other in zip(lists, scorer.vectors("retrieval")):
        np.testing.assert_array_equal(one, other)


def test_ids_that_were_never_trained_stay_unknown(split):
    model, pool = trained(split)
    model.query_tower.warm.scatter_update(
        tf.IndexedSlices(np.zeros(3, np.float32), [1, 2, 3]))
    before = model.query_tower.id_table.numpy()[:4]
    solve_ratings(model, pool)
    np.testing.assert_array_equal(
        model.query_tower.id_table.numpy()[:4], before)
    assert not PoolScorer.of(model, pool).parts("query")["id"][:4].numpy(
        ).any()


def test_the_callback_predicts_better_than_steps_alone(split):
    errors = []
    for solves in (False, True):
        pool = Pool.from_interactions(split.train, initial=1.0, seed=0)
        tf_keras.utils.set_random_seed(0)
        model = TwoTower.from_interactions(split.train, embedding_dim=16)
        model.compile(learning_rate=5e-3)
        model.fit(pool.sequence(256), epochs=3, verbose=0,
                  callbacks=[SolveRatings(pool)] * solves)
        errors.append(metrics.rmse(
            split.test.label, PoolScorer.of(model, pool).predict(
                split.test.user_code, split.test.item_code)))
    assert errors[1] < 0.97 * errors[0]


def test_workers_share_one_solution(split):
    model, pool = trained(split)

    def share(solve):
        return [np.full_like(one, 0.5) for one in solve()]

    solve_ratings(model, pool, share=share)
    assert (model.candidate_tower.bias_table.numpy()[1:] == 0.5).all()
    assert (model.query_tower.id_table.numpy()[1:, :8] == 0.5).all()


def test_models_that_cannot_be_solved(split):
    pool = Pool.from_interactions(split.train, initial=1.0, seed=0)
    for model in (make_towers(split.train, 0, 3.0), TwoTower.from_interactions(
            split.train, embedding_dim=4, tasks=[Retrieval(name="lists")])):
        with pytest.raises(TypeError, match="`take_rating`"):
            solve_ratings(model, pool)
    with pytest.raises(ValueError, match="sweeps=0"):
        solve_ratings(trained(split)[0], pool, sweeps=0)


def made(noise, seed=0, users=80, items=50, share=0.35):
    """Ratings of users and items with tastes, and some noise."""
    rng = np.random.default_rng(seed)
    taste = rng.standard_normal((users, 3)) @ rng.standard_normal((3, items))
    label = np.clip(3 + taste + noise * rng.standard_normal(taste.shape), 1, 5)
    user, item = np.nonzero(rng.random(taste.shape) < share)
    return splits.random(Interactions.from_frame(pd.DataFrame({
        "user_id": [f"u{one}" for one in user],
        "item_id": [f"i{one}" for one in item],
        "label": label[user, item]}), scale=(1, 5)), seed=seed)


def choice_of(split, **options):
    pool = Pool.from_interactions(split.train, initial=1.0, seed=0)
    return choose_rating_l2(pool, split.validation, **options)


def test_clear_tastes_are_held_less_than_noise():
    clear, noisy = choice_of(made(0.1)), choice_of(made(4.0))
    assert clear.l2 < 0.08 < noisy.l2
    assert clear.error < 0.9 * clear.before
    assert "RMSE" in str(clear) and f"{clear.tried} tries" in str(clear)
    assert dataclasses.replace(choice_of(made(0.1)), seconds=0
                               ) == dataclasses.replace(clear, seconds=0)


def test_clicks_are_judged_by_cross_entropy():
    choice = choice_of(binary(made(0.1)))
    assert choice.loss == "binary_crossentropy"
    assert choice.error <= choice.before < 0.7
    assert "cross-entropy" in str(choice)


def test_labels_that_are_alike_leave_the_default():
    split = made(0.1)
    frame = split.train.frame.assign(label=4.0)
    train = Interactions(frame, split.train.users, split.train.items,
                         scale=(1, 5))
    choice = choose_rating_l2(
        Pool.from_interactions(train, initial=1.0), split.validation, l2=0.2)
    assert (choice.l2, choice.tried) == (0.2, 0)
    assert "the default" in str(choice)


def test_a_sample_of_users_stands_for_many_rows(monkeypatch):
    from tfrecal.scoring import rating_choice
    split = made(0.1)
    whole = choice_of(split)
    monkeypatch.setattr(rating_choice, "_ROWS", len(split.train) // 2)
    some = choice_of(split)
    assert some.error != whole.error
    assert some.l2 < 0.1


def test_options_out_of_range_and_rows_that_were_seen(split):
    with pytest.raises(ValueError, match="l2=0"):
        choice_of(split, l2=0)
    with pytest.raises(ValueError, match="shrinkage=-1"):
        choice_of(split, shrinkage=-1)
    pool = Pool.from_interactions(split.train, initial=1.0, seed=0)
    with pytest.raises(ValueError):
        choose_rating_l2(pool, split.train)
