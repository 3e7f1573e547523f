"""Runs on files of one's own: clicks only, own parts, few rows."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_data, load_split

HEAD = "user_id,item_id,label"


def write(path, rows, head=HEAD):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def grid(users, items):
    return [(f"u{user}", f"i{item}") for user in range(users)
            for item in range(items)]


def click_rows():
    """260 clicks, 40 of which come again: user, item, timestamp."""
    rng = np.random.default_rng(0)
    pairs = grid(30, 20)
    chosen = [pairs[n] for n in rng.permutation(len(pairs))[:260]]
    return [f"{user},{item},{1_600_000_000 + 60 * n}" for n, (user, item)
            in enumerate([*chosen, *chosen[:40]])]


@pytest.fixture
def clicks(tmp_path):
    """260 clicks as rows of label 1."""
    return write(tmp_path / "clicks.csv", [
        f"{row},1" for row in click_rows()[:260]],
        "user_id,item_id,timestamp,label")


def test_clicks_are_rows_of_label_1(tmp_path, capsys):
    clicks = write(tmp_path / "clicks.csv", click_rows(),
                   "user_id,item_id,timestamp")
    data = load_data(RunConfig(data=str(clicks)))
    assert len(data) == 260 and (data.label == 1).all()
    assert data.scale == (0.0, 1.0)
    said = capsys.readouterr().err
    assert "each row is a click" in said and "40  the (user, item)" in said
    # Of a pair that comes twice, the last click counts.
    assert data.frame["timestamp"].max() == 1_600_000_000 + 60 * 299


def test_a_rating_under_another_name_is_no_click(tmp_path):
    path = write(tmp_path / "own.csv", ["a,b,3"], "user_id,item_id,rating")
    with pytest.raises(ValueError, match="rating"):
        load_data(RunConfig(data=str(path)))


@pytest.mark.large
def test_clicks_only_from_a_run_to_an_export(clicks, tmp_path, command_line):
    import tensorflow as tf

    folder = tmp_path / "run"
    code, said = command_line("run", "--data", clicks, "--encoder", "none",
                              "--final-epochs", 1, "-o", folder)
    assert code == 0 and "nothing to ask" in said
    assert "RMSE" not in said and "AUC" not in said
    config = json.loads((folder / "config.json").read_text())
    assert (config["rounds"], config["initial"]) == (0, 1.0)
    assert RunFolder(folder).state["rows"] == 208  # 80% of 260
    assert command_line("run", "--resume", folder)[0] == 0
    assert command_line("report", folder)[0] == 0
    code, said = command_line(
        "acquire", "--run", folder, "--to", tmp_path / "q.csv")
    assert code == 2 and "--oracle people" in said
    base = tmp_path / "models"
    assert command_line("export", "--run", folder, "--to", base)[0] == 0
    served = tf.saved_model.load(str(base / "1"))
    # Nothing was learned of what people do not like.
    assert "score" not in served.signatures
    none = tf.zeros([0, 0], tf.string)
    lists = served.signatures["recommend"](
        user_id=tf.constant(["u1", "?"]), history=none, exclude=none)
    assert b"" not in lists["item_ids"].numpy()


@pytest.mark.large
def test_people_are_asked_beside_clicks(clicks, tmp_path, command_line):
    folder, questions = tmp_path / "run", tmp_path / "q.csv"
    assert command_line(
        "run", "--data", clicks, "--encoder", "none", "--oracle", "people",
        "--rounds", 1, "--final-epochs", 1, "-o", folder)[0] == 0
    code, said = command_line("acquire", "--run", folder, "--to", questions)
    assert code == 0 and said.startswith("100 questions")
    asked = pd.read_csv(questions)
    asked["label"] = np.arange(len(asked)) % 2
    asked.to_csv(questions, index=False)
    assert command_line(
        "label", "--run", folder, "--from", questions)[0] == 0
    code, said = command_line("run", "--resume", folder)
    assert code == 0 and "308" in said


@pytest.fixture
def parts(tmp_path):
    """Files of 200, 30 and 20 rows over the same users and items."""
    rows = [f"{user},{item},{1 + n % 5}" for n, (user, item) in enumerate(
        grid(25, 10))]
    rng = np.random.default_rng(1)
    rows = [rows[n] for n in rng.permutation(len(rows))]
    return [write(tmp_path / f"{name}.csv", rows[start:end])
            for name, start, end in (("train", 0, 200),
                                     ("validation", 200, 230),
                                     ("test", 230, 250))]


@pytest.mark.parametrize("validation, test, sizes", [
    (True, True, (200, 30, 20)), (True, False, (180, 30, 20)),
    (False, True, (180, 20, 20)), (False, False, (160, 20, 20))])
def test_own_parts_are_kept_and_the_others_are_cut(
        validation, test, sizes, parts):
    config = RunConfig(
        data=str(parts[0]), validation=str(parts[1]) if validation else None,
        test=str(parts[2]) if test else None)
    found = load_split(config)
    assert tuple(map(len, found)) == sizes
    for given, part, path in zip((validation, test), found[1:], parts[1:]):
        if given:
            own = pd.read_csv(path)
            assert part.frame["user_id"].tolist() == own["user_id"].tolist()
            assert part.label.tolist() == own["label"].tolist()
    assert (found.train.user_vocabulary is found.test.user_vocabulary
            or (found.train.user_ids == found.test.user_ids).all())


@pytest.mark.parametrize("split", [
    "temporal", "leave_last_n", "cold_users", "cold_items"])
def test_each_split_cuts_one_part_beside_an_own_one(split, parts):
    rows = pd.read_csv(parts[0])
    rows.assign(timestamp=1_600_000_000 + np.arange(200) * 60).to_csv(
        parts[0], index=False)
    config = RunConfig(data=str(parts[0]), test=str(parts[2]), split=split)
    found = load_split(config)
    assert len(found.test) == 20 and len(found.validation)
    assert len(found.train) + len(found.validation) == 200


def test_a_pair_stands_in_one_part(parts, capsys):
    first = parts[0].read_text().splitlines()[1]
    parts[2].write_text(parts[2].read_text() + first + "\n")
    config = RunConfig(data=str(parts[0]), test=str(parts[2]))
    with pytest.raises(ValueError, match="1 of 21 pairs.*--bad-rows drop"):
        load_data(config)
    config.bad_rows = "drop"
    assert len(load_split(config).test) == 20
    assert "left out: 1 of 21 pairs" in capsys.readouterr().err


@pytest.mark.parametrize("row, message", [
    ("stranger,i1,3", "not in the users table"), ("u1,stranger,3", "items"),
    ("u1,i1,9", "on the scale")])
def test_own_parts_are_of_known_users_items_and_labels(row, message, parts):
    write(parts[2], [row])
    with pytest.raises(ValueError, match=message) as error:
        load_data(RunConfig(data=str(parts[0]), test=str(parts[2])))
    assert f"`--test {parts[2]}` must have" in str(error.value)


def test_named_data_bring_their_own_parts(parts):
    with pytest.raises(ValueError, match="--test beside --data shop"):
        load_data(RunConfig(data="shop", test=str(parts[2])))
    with pytest.raises(ValueError, match="`test` must be a CSV.*missing"):
        load_data(RunConfig(data=str(parts[0]), test="nowhere.csv"))


def test_a_part_of_ratings_needs_labels(parts):
    """They would be clicks, and 1 is the worst rating."""
    rows = [row.rpartition(",")[0] for row
            in parts[2].read_text().splitlines()[1:]]
    write(parts[2], rows, "user_id,item_id")
    with pytest.raises(ValueError, match="a scale of 1 to 5.*--test"):
        load_data(RunConfig(data=str(parts[0]), test=str(parts[2])))
    # Beside labels of 0 and 1 they are positives.
    frame = pd.read_csv(parts[0])
    frame.assign(label=frame["label"] // 4).to_csv(parts[0], index=False)
    split = load_split(RunConfig(data=str(parts[0]), test=str(parts[2])))
    assert (split.test.label == 1).all()


def test_a_part_that_is_all_in_another_is_refused(parts):
    with pytest.raises(ValueError, match="20 of 20 pairs.*another file"):
        load_data(RunConfig(data=str(parts[0]), validation=str(parts[2]),
                            test=str(parts[2]), bad_rows="drop"))


@pytest.mark.large
def test_own_parts_are_kept_in_the_run_folder(parts, tmp_path, command_line):
    folder = tmp_path / "run"
    options = ["--data", parts[0], "--test", parts[2], "--encoder", "none"]
    assert command_line("run", *options, "--rounds", 1, "-o", folder)[0] == 0
    found = json.loads((folder / "test.json").read_text())
    assert found["rows"] == 20
    for path in parts:
        path.unlink()
    (folder / "test.json").unlink()
    assert command_line("run", "--resume", folder)[0] == 0
    assert json.loads((folder / "test.json").read_text()) == found


@pytest.mark.large
@pytest.mark.parametrize("users, items, rows", [
    (6, 6, 30), (3, 4, 12), (1, 30, 30), (30, 1, 30)])
@pytest.mark.parametrize("options", [
    [], ["--strategy", "margin"], ["--batch", 1000], ["--rounds", 0]])
def test_few_rows_run(users, items, rows, options, tmp_path, command_line):
    path = write(tmp_path / "own.csv", [
        f"{user},{item},{1 + n * 7 % 5}" for n, (user, item)
        in enumerate(grid(users, items)[:rows])])
    code, said = command_line(
        "run", "--data", path, "--encoder", "none", *options, "-o",
        tmp_path / "run")
    assert code == 0, said


@pytest.mark.parametrize("rows, options, message", [
    (["a,b,1", "a,c,0"], [], "--split"),
    ([f"u{n},i{n},{n % 2}" for n in range(30)],
     ["--split", "temporal"], "--split"),
    ([f"u{n},i,{n % 2}" for n in range(30)],
     ["--split", "leave_last_n"], "--validation"),
    ([f"u{n},i{n},4" for n in range(30)], [], "Labels must differ"),
    ([f"u{n},i{n},0" for n in range(30)], [], "positives")])
def test_too_few_rows_end_in_one_line(
        rows, options, message, tmp_path, command_line):
    path = write(tmp_path / "own.csv", rows)
    code, said = command_line(
        "run", "--data", path, *options, "-o", tmp_path / "run")
    assert code == 2 and message in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
