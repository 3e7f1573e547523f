"""Pool, PoolSequence: no label twice, none lost, no row left out."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrecal.data.interactions import Interactions
from tfrecal.model.linear_block import BlockOptions, grades
from tfrecal.model.towers import QueryTower
from tfrecal.pool.pool import Pool, PoolExhausted
from tfrecal.scoring.block import GradedHistories


@pytest.fixture
def pool(shop):
    return Pool.from_interactions(shop, initial=0.1, seed=0)


def test_initial_rows_are_labelled_and_the_others_hidden(shop, pool):
    number = round(0.1 * len(shop))
    assert pool.counts["labelled"] == number
    rows = pool.labelled_rows()
    assert np.array_equal(pool.label[rows], shop.label[rows])
    assert np.isnan(np.delete(pool.label, rows)).all()


def test_a_pair_is_asked_once(pool):
    user, item = pool.candidates()
    tickets = pool.ask(user[:3], item[:3], 0, "random")
    assert tickets.tolist() == [0, 1, 2] and pool.pending == 3
    with pytest.raises(PoolExhausted, match="1 of 1 pairs"):
        pool.ask(user[:1], item[:1], 1, "random")
    again = pool.candidates()
    assert len(again[0]) == len(user) - 3


def test_answers_are_taken_once_and_paid_always(pool):
    user, item = pool.candidates()
    tickets = pool.ask(user[:2], item[:2], 0, "random")
    fresh = pool.answer(tickets, [4.0, np.nan], [False, True], [2.0, 1.0])
    assert fresh.tolist() == [True, True] and pool.spent == 3.0
    fresh = pool.answer(tickets[:1], [1.0], [False], [2.0])
    assert fresh.tolist() == [False] and pool.spent == 5.0
    row = pool.rows(user[:2], item[:2])
    assert pool.label[row[0]] == 4.0 and pool.counts["declined"] == 1


def test_a_late_answer_counts_after_expiry(pool):
    user, item = pool.candidates()
    old = pool.ask(user[:1], item[:1], 0, "random")
    assert pool.expire(before_round=1) == 1
    new = pool.ask(user[:1], item[:1], 1, "random")
    assert pool.answer(old, [5.0], [False], [1.0]).all()
    assert not pool.answer(new, [5.0], [False], [1.0]).any()


@pytest.mark.parametrize("label", [0.0, 6.0, np.nan, np.inf])
def test_labels_off_the_scale_are_refused(pool, label):
    user, item = pool.candidates()
    tickets = pool.ask(user[:1], item[:1], 0, "random")
    with pytest.raises(ValueError, match="scale 1 to 5"):
        pool.answer(tickets, [label], [False], [1.0])
    assert pool.spent == 0 and pool.pending == 1


def test_unknown_tickets_are_refused(pool):
    with pytest.raises(ValueError, match="ticket=7"):
        pool.answer([7], [3.0], [False], [1.0])


@pytest.mark.parametrize("initial", [-0.1, 1.5, -3, 10**9])
def test_initial_out_of_range(shop, initial):
    with pytest.raises(ValueError, match="`initial`"):
        Pool.from_interactions(shop, initial=initial)


def test_cross_offers_only_unknown_pairs(shop):
    pool = Pool.cross(shop)
    known = len(pool)
    user, item = pool.candidates(500, np.random.default_rng(1))
    assert len(user) == 500 and (pool.rows(user, item) < 0).all()
    tickets = pool.ask(user[:20], item[:20], 0, "random")
    assert len(pool) == known + 20
    pool.answer(tickets, np.full(20, 3.0), np.zeros(20, bool), np.ones(20))
    everything = len(shop.users) * len(shop.items)
    left, _ = pool.candidates(everything, np.random.default_rng(2))
    assert len(left) == everything - known - 20


def test_saved_and_loaded(shop, pool, tmp_path):
    user, item = pool.candidates()
    tickets = pool.ask(user[:5], item[:5], 2, "bald", np.arange(5.0))
    pool.answer(tickets[:2], [1.0, 2.0], [False] * 2, [1.0] * 2)
    pool.save(tmp_path / "pool.npz")
    same = Pool.load(tmp_path / "pool.npz", shop)
    for name in ("user", "item", "state", "round", "label", "cost",
                 "strategy", "utility", "ticket", "time"):
        np.testing.assert_array_equal(getattr(same, name),
                                      getattr(pool, name))
    assert same.answer(tickets[2:3], [3.0], [False], [1.0]).all()
    assert [p.name for p in tmp_path.iterdir()] == ["pool.npz"]


def test_a_pool_over_other_tables_is_refused(shop, pool, tmp_path):
    pool.save(tmp_path / "pool.npz")
    other = Interactions.from_frame(shop.frame.iloc[:50], scale=(1, 5))
    with pytest.raises(ValueError, match="tables"):
        Pool.load(tmp_path / "pool.npz", other)


def test_sequence_holds_each_labelled_row_once_and_grows(pool):
    sequence = pool.sequence(batch_size=64)
    for more in (0, 100):
        user, item = pool.candidates()
        if more:
            tickets = pool.ask(user[:more], item[:more], 0, "random")
            pool.answer(tickets, np.full(more, 3.0), np.zeros(more, bool),
                        np.ones(more))
            sequence.on_epoch_end()
        batches = [sequence[i] for i in range(len(sequence))]
        seen = np.concatenate([
            pool.rows(b["user_id"], b["item_id"]) for b in batches])
        assert np.array_equal(np.sort(seen), pool.labelled_rows())


@pytest.mark.parametrize("limit", [4, 200])
def test_histories_leave_the_target_out(pool, limit):
    """Looked up once a user, as if each row had a history of its own."""
    tower = QueryTower(pool.user_ids, item_ids=pool.item_ids)
    rows = pool.by_user_and_time(pool.labelled_rows())
    rows = rows[pool.label[rows] >= pool.positive]
    sequence = pool.sequence(batch_size=64, max_history=limit)
    for batch in (sequence[i] for i in range(len(sequence))):
        own = [[j for j in pool.item[rows[pool.user[rows] == u]][-limit:]
                if j != i]
               for u, i in zip(batch["user_id"], batch["item_id"])]
        found, expected = (tower.parts(features)["history"] for features in (
            {k: v for k, v in batch.items() if k in tower.inputs_read},
            {"history": tf.ragged.constant(own, dtype=tf.int32)}))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_log_q_follows_traffic_not_acquisition(shop):
    natural = Pool.from_interactions(shop, initial=1.0).natural_log_q()
    positive = np.bincount(
        shop.item_code[shop.label >= 4], minlength=len(shop.items) + 1)
    known = positive[1:] > 10
    share = np.log(positive[1:][known] / positive.sum())
    assert np.corrcoef(natural[1:][known], share)[0, 1] > 0.9
    np.testing.assert_allclose(np.exp(natural[1:]).sum(), 1, rtol=1e-4)


def test_a_pool_without_labels_cannot_train(shop):
    with pytest.raises(ValueError, match="at least one labelled row"):
        Pool.from_interactions(shop, initial=0).sequence()


def test_a_sequence_of_a_fixed_number_of_steps(pool):
    """Every row as often as any other, give or take one."""
    sequence = pool.sequence(batch_size=16, steps=9, first_steps=20)
    rows = len(pool.labelled_rows())
    for steps in (20, 9, 9):
        assert len(sequence) == steps
        assert sequence.num_rows == 16 * steps and not sequence.fetched
        batches = [sequence[i] for i in range(steps)]
        pairs = pool.rows(*(np.concatenate([b[name] for b in batches])
                            for name in ("user_id", "item_id")))
        counts = np.unique(pairs, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1 and (
            len(counts) == min(rows, 16 * steps))
        assert sequence.fetched == sequence.num_rows
        sequence.on_epoch_end()
    longer = pool.sequence(batch_size=16, steps=1, passes=2)
    assert longer.num_rows == 2 * rows
    assert pool.sequence(batch_size=16).num_rows == rows
    assert [one.num_rows for one in pool.sequences].count(2 * rows) == 1


def test_batches_say_how_many_labels_each_id_has(pool):
    batch = pool.sequence(batch_size=64)[0]
    rows = pool.labelled_rows()
    for side in ("user", "item"):
        codes = getattr(pool, side)
        assert batch[f"{side}_labels"].tolist() == [
            (codes[rows] == code).sum() for code in batch[f"{side}_id"]]


def test_initial_rows_by_a_mask(shop):
    mask = np.arange(len(shop)) % 7 == 0
    pool = Pool.from_interactions(shop, mask)
    np.testing.assert_array_equal(pool.labelled_rows(),
                                  np.flatnonzero(mask))
    with pytest.raises(ValueError, match="must be bool"):
        Pool.from_interactions(shop, mask[1:])


def test_repr_says_what_a_pool_holds(pool, shop):
    user, item = pool.candidates()
    tickets = pool.ask(user[:3], item[:3], 0, "random")
    pool.answer(tickets[:2], [4.0, np.nan], [False, True], [2.0, 0.5])
    number = round(0.1 * len(shop))
    left = len(shop) - number - 3
    assert repr(pool) == (
        f"Pool({len(shop.users):,} users x {len(shop.items):,} items: "
        f"{left:,} unlabelled, 1 asked, {number + 1:,} labelled, 1 declined;"
        "\n     labels 1 to 5, positive from 4; 1 rounds, 2.5 spent)")
    text = repr(Pool.cross(shop))
    assert "items, all pairs: " in text and "0 rounds, 0 spent" in text


def test_pairs_of_a_pool_have_its_ids(pool):
    pairs = pool.pairs(pool.user[:5], pool.item[:5])
    assert pairs.user_vocabulary is pool.user_vocabulary
    assert pairs.user_id.tolist() == [
        pool.user_ids[code - 1] for code in pool.user[:5]]
    assert pairs.item_id.tolist() == [
        pool.item_ids[code - 1] for code in pool.item[:5]]


def test_the_digest_is_of_all_that_a_pool_is(shop, tmp_path):
    pool = Pool.from_interactions(shop, 50, seed=0)
    pool.save(tmp_path / "pool.npz")
    first = pool.digest()
    assert Pool.load(tmp_path / "pool.npz", shop).digest() == first
    found = {first}
    for change in (
            lambda: pool.ask(*pool.candidates(3), 0, "random"),
            lambda: pool.answer([0], [4.0], [False], [1.0]),
            lambda: setattr(pool, "lazy", True),
            lambda: setattr(pool, "user_ids", pool.user_ids[::-1])):
        change()
        found.add(pool.digest())
    assert len(found) == 5


def _history(pool, code):
    indptr, items = pool.histories()
    return [pool.item_ids[item - 1]
            for item in items[indptr[code]:indptr[code + 1]]]


def _timed(times, labels=None):
    """Returns rows of one user on items 0, 1, ... at given times."""
    number = len(times)
    return Interactions.from_frame(pd.DataFrame({
        "user_id": "u", "item_id": [str(i) for i in range(number)],
        "label": labels or [5.0] * number, "timestamp": times}), scale=(1, 5))


def test_histories_are_oldest_first_and_of_one_time_in_row_order():
    rows = _timed([9.5, 3, 9.25, 1, 3], [5, 4, 5, 1, 5])
    wanted = rows.frame[rows.label >= 4].sort_values(
        "timestamp", kind="stable")["item_id"].tolist()
    assert wanted != rows.frame["item_id"][rows.label >= 4].tolist()
    assert _history(Pool.cross(rows), 1) == wanted
    assert _history(Pool.from_interactions(rows, 1.0), 1) == wanted


def test_without_times_histories_are_in_row_order(shop):
    bare = shop.with_frame(shop.frame.assign(timestamp=0.0))
    pool = Pool.from_interactions(bare, 1.0)
    for code in range(1, len(shop.users) + 1):
        own = (shop.user_code == code) & (shop.label >= pool.positive)
        assert _history(pool, code) == shop.frame["item_id"][own].tolist()


def test_a_pair_outside_the_log_is_the_youngest(tmp_path):
    rows = _timed([7, 8, 2, 4])
    held = rows.with_frame(rows.frame.iloc[:3])
    pool = Pool.cross(held)
    new = held.item_vocabulary.codes(["3"])
    tickets = pool.ask(held.user_code[:1], new, 0, "random")
    pool.answer(tickets, [5.0], [False], [1.0])
    assert _history(pool, 1) == ["2", "0", "1", "3"]
    pool.save(tmp_path / "pool.npz")
    again = Pool.load(tmp_path / "pool.npz", held)
    assert _history(again, 1) == ["2", "0", "1", "3"]
    assert again.digest() == pool.digest()


def test_a_pool_saved_without_times_is_in_row_order(tmp_path):
    rows = _timed([7, 8, 2, 4])
    Pool.cross(rows).save(tmp_path / "pool.npz")
    with np.load(tmp_path / "pool.npz") as data:
        older = {name: data[name] for name in data if name != "time"}
    np.savez(tmp_path / "older.npz", **older)
    assert _history(Pool.load(tmp_path / "pool.npz", rows), 1) == [
        "2", "3", "0", "1"]
    assert _history(Pool.load(tmp_path / "older.npz", rows), 1) == [
        "0", "1", "2", "3"]
    np.savez(tmp_path / "bad.npz", **older, time=np.full(4, np.nan))
    with pytest.raises(ValueError, match="times that cannot be"):
        Pool.load(tmp_path / "bad.npz", rows)


def test_blocks_read_histories_oldest_first():
    pool = Pool.cross(_timed([7, 8, 2, 4], [5, 3, 1, 4]))
    options = BlockOptions(rank=3, decay=0.5)
    histories = GradedHistories.of_pool(pool)
    solved = histories.solve(options)
    queries = histories.queries(solved)
    order = np.array([2, 3, 0, 1])
    wanted = solved.queries(np.array([0, 4]), 1 + order, grades(
        np.array([5, 3, 1, 4])[order], (1, 5)))
    np.testing.assert_allclose(queries[1:], wanted, rtol=1e-6)
