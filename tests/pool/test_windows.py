"""Windows: what came before each row, shared by the rows of a user."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.pool.pool import Pool
from tfrecal.pool.windows import Windows


@pytest.fixture
def pool(shop):
    return Pool.from_interactions(shop, initial=0.8, seed=0)


def before(pool):
    """What each labelled row's user liked before it, row -> items."""
    liked = {code: [] for code in pool.user}
    found = {}
    rows = pool.labelled_rows()
    for row in rows[np.argsort(pool.time[rows], kind="stable")]:
        found[row] = list(liked[pool.user[row]])
        if pool.label[row] >= pool.positive:
            liked[pool.user[row]].append(pool.item[row])
    return found


def read(features, number):
    """The items that come before a row, by its features."""
    window = features["window"][features["window_row"][number]].numpy()
    return window[:features["window_place"][number]].tolist()


@pytest.mark.parametrize("width", [1, 2, 3, 8, 200])
def test_a_row_sees_what_came_before_it_and_nothing_else(pool, width):
    rows = pool.labelled_rows()
    features = Windows(pool, width).features(rows)
    assert max(map(len, before(pool).values())) > 8
    for number, (row, wanted) in enumerate(
            (row, before(pool)[row]) for row in rows):
        found = read(features, number)
        assert found == wanted[len(wanted) - len(found):]
        assert len(found) == len(wanted) or width / 2 < len(found) <= width


def test_pieces_are_shared(pool):
    rows = pool.labelled_rows()
    pieces = Windows(pool, 200).features(rows)["window"]
    assert pieces.shape[0] == len(np.unique(pool.user[rows]))
    assert pieces.flat_values.shape[0] <= len(rows)


def test_rows_of_a_window_come_together_and_none_is_left_out(pool):
    sequence = pool.sequence(batch_size=32, window=8)
    order = np.concatenate([pool.rows(batch["user_id"], batch["item_id"])
                            for batch in map(sequence.__getitem__,
                                             range(len(sequence)))])
    assert np.array_equal(np.sort(order), pool.labelled_rows())
    piece = Windows(pool, 8).of_rows[order]
    assert 1 + np.count_nonzero(np.diff(piece)) == len(np.unique(piece))
    sequence.start(1)
    again = pool.rows(sequence[0]["user_id"], sequence[0]["item_id"])
    assert not np.array_equal(again, order[:32])


def test_batches_hold_what_the_towers_read(pool):
    sequence = pool.sequence(batch_size=32)
    assert not {"window", "negative_id"} & set(sequence[0])
    sequence.read_for(4, 6)
    batch, wanted = sequence[1], before(pool)
    for number, row in enumerate(pool.rows(batch["user_id"],
                                           batch["item_id"])):
        found = read(batch, number)
        assert found == wanted[row][len(wanted[row]) - len(found):]
    liked = pool.item[pool.label >= pool.positive]
    assert len(batch["negative_id"]) == 6
    assert np.isin(batch["negative_id"], liked).all()


def test_negatives_are_of_the_batch_alone(pool):
    """A resumed run draws them as one that went on."""
    first = pool.sequence(batch_size=32, window=8, negatives=16)
    first.start(3)
    other = pool.sequence(batch_size=32, window=8, negatives=16)
    other.start(2)
    other.start(3)
    drawn = [first[n]["negative_id"].tolist() for n in range(3)]
    assert drawn == [other[n]["negative_id"].tolist() for n in range(3)]
    assert drawn[0] != drawn[1]
    share = first.share(1, 0, 2)
    assert share["negative_id"].tolist() == drawn[1]
    for number in range(len(share["user_id"])):
        row = pool.rows(share["user_id"], share["item_id"])[number]
        found = read(share, number)
        wanted = before(pool)[row]
        assert found == wanted[len(wanted) - len(found):]


@pytest.mark.parametrize("options", [{"window": 0}, {"negatives": -1}])
def test_bad_numbers_are_refused(pool, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        pool.sequence(**options)


def test_a_pool_without_positives_has_no_negatives(shop):
    low = shop.with_frame(shop.frame.assign(label=1.0))
    batch = Pool.cross(low).sequence(window=4, negatives=8)[0]
    assert not len(batch["negative_id"])
    assert not batch["window_place"].any()


def test_rows_without_times_have_no_order_to_learn(shop):
    bare = Pool.cross(shop.with_frame(shop.frame.assign(timestamp=7.0)))
    with pytest.warns(UserWarning, match="rows with times"):
        bare.sequence().read_for(4, 0)
