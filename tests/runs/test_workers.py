"""Several workers: who they are, what each trains, and what they share."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from run_ends import end

from tfrecal import splits
from tfrecal.callbacks import AcquireLabels
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import Answers, Oracle
from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder
from tfrecal.pool.sequence import bounds
from tfrecal.runs import workers
from tfrecal.runs.cluster import Cluster
from tfrecal.runs.workers import Workers, WorkersStopped


def tf_config(addresses, index=0, kind="worker", **more):
    return json.dumps({"cluster": {"worker": addresses, **more},
                       "task": {"type": kind, "index": index}})


TWO = ["one:2222", "two:2222"]


@pytest.mark.parametrize("text, expected", [
    ("", None), ("{}", None), (tf_config(["one:2222"]), None),
    (tf_config(TWO, 1), Cluster(("one:2222", "two:2222"), 1)),
    # As TensorFlow counts them, the chief comes first.
    (tf_config(TWO, 1, chief=["boss:1"]),
     Cluster(("boss:1", "one:2222", "two:2222"), 2)),
    (tf_config(TWO, 0, "chief", chief=["boss:1"]),
     Cluster(("boss:1", "one:2222", "two:2222"), 0))])
def test_a_cluster_is_read(text, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert Cluster.from_environment() == expected


@pytest.mark.parametrize("text", [
    "{", "[]", "3", '{"cluster": 3}', '{"cluster": {"worker": "one:1"}}',
    '{"cluster": {"worker": ["one:1", "two:1"]}}',
    tf_config(TWO, 2), tf_config(TWO, -1), tf_config(TWO, "0"),
    tf_config(TWO, True), tf_config(TWO, kind="ps"),
    tf_config(TWO, ps=["three:1"]), tf_config(TWO, evaluator=["three:1"]),
    tf_config(["one", "two:1"]), tf_config(["one:0", "two:1"]),
    tf_config(["one:\u0662", "two:1"]), tf_config(["one:\u00b2", "two:1"]),
    tf_config(["one:1", "one:1"]), tf_config(TWO, chief=["a:1", "b:1"])])
def test_a_wrong_cluster_is_one_error(
        text, monkeypatch, command_line, tmp_path):
    monkeypatch.setenv("TF_CONFIG", text)
    code, said = command_line("run", "--data", "shop", "--encoder", "none",
                              "--quiet", "-o", tmp_path / "run")
    assert code == 2 and said.count("Received: ") == 1
    assert "`TF_CONFIG` must be" in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def free_ports(number):
    """Ports that nobody had a moment ago."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_who_is_missing_is_said():
    here, there = (f"127.0.0.1:{port}" for port in free_ports(2))
    with pytest.raises(ValueError, match=f"nothing from worker 1 .{there}"):
        Cluster((here, there), 0).wait(0.5)


def test_who_listens_is_not_waited_for():
    here, there = free_ports(2)
    with socket.create_server(("127.0.0.1", there)):
        Cluster((f"127.0.0.1:{here}", f"127.0.0.1:{there}"), 0).wait(5)


@pytest.mark.parametrize("given", ["5m", "0", "-1", "inf", "nan"])
def test_how_long_to_wait_is_checked(given, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(TWO))
    monkeypatch.setenv("TFRECAL_WORKERS_WAIT", given)
    with pytest.raises(ValueError, match=f"WORKERS_WAIT.*'{given}'"):
        with workers.join():
            pass


def test_a_taken_port_is_said():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"must be free. .*{port}"):
            Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0).wait(5)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_each_row_is_trained_once_by_one_replica(shop, number):
    pool = Pool.from_interactions(shop, initial=101, seed=0)
    sequence = pool.sequence(batch_size=50, seed=3)
    seen = []
    for batch in range(len(sequence)):  # of 50, 50 and 1 rows
        whole = sequence[batch]
        shares = [sequence.share(batch, n, number) for n in range(number)]
        joined = shares[0]["all"]
        sizes = []
        for n, share in enumerate(shares):
            for name, column in joined.items():
                np.testing.assert_array_equal(share["all"][name], column)
            first, stop = share["own"]
            sizes.append(stop - first)
            assert len(share["place"]) == max(stop - first, 1)
            for name in ("user_id", "item_id", "label", "weight", "log_q",
                         "user_labels", "item_labels", "history_skip"):
                np.testing.assert_array_equal(
                    share[name], whole[name][share["place"]])
            for row, place in enumerate(share["place"]):
                np.testing.assert_array_equal(
                    share["history"][share["history_row"][row]],
                    whole["history"][whole["history_row"][place]])
            seen += list(zip(share["user_id"][:stop - first],
                             share["item_id"][:stop - first]))
            np.testing.assert_array_equal(
                joined["item_id"][first:stop],
                share["item_id"][:stop - first])
        assert max(sizes) - min(sizes) <= 1
        assert sum(sizes) == len(whole["label"])
        assert (np.diff(joined["item_id"]) >= 0).all()  # of an item together
    rows = pool.labelled_rows()
    assert sorted(seen) == sorted(zip(pool.user[rows], pool.item[rows]))


@pytest.mark.parametrize("rows, number, expected", [
    (7, 3, [0, 3, 5, 7]), (2, 3, [0, 1, 2, 2]), (4, 2, [0, 2, 4])])
def test_slices(rows, number, expected):
    assert bounds(rows, number).tolist() == expected


def test_masks_are_those_of_the_whole_batch(shop):
    tower = TwoTower.from_interactions(
        shop, dropout=0.5, embedding_dim=8).candidate_tower
    codes = np.arange(1, 21, dtype=np.int32)
    whole = tower.combine(tower.parts({"item_id": codes}), True, 7)
    place = np.array([13, 2, 2, 9], np.int32)
    part = tower.combine(tower.parts(
        {"item_id": codes[place]}), True, 7, tf.constant(place))
    for block, vectors in whole.items():
        np.testing.assert_allclose(
            part[block], vectors.numpy()[place], rtol=1e-6)


@pytest.fixture(scope="module")
def model(shop):
    found = TwoTower.from_interactions(shop, embedding_dim=4, mean=3.0)
    found.compile()
    return found


class Slow(Oracle):
    """Declines each fifth; answers half of the questions a round later."""

    def __init__(self, data):
        super().__init__()
        self.label = {(user, item): label for user, item, label in zip(
            data.frame["user_id"], data.frame["item_id"],
            data.frame["label"])}
        self.waiting = []

    def ask(self, questions):
        self.waiting.append(questions)

    def answers(self):
        now = self.waiting[-1:]
        self.waiting = [part.take(slice(1, None, 2)) for part in now
                        if len(part) > 1]
        found = [part.take(slice(0, None, 2)) for part in now]
        if not found:
            return Answers.empty()
        ticket = found[0].ticket
        label = np.array([self.label[pair] for pair in zip(
            found[0].user_id, found[0].item_id)], np.float32)
        declined = ticket % 5 == 0
        return Answers(ticket, np.where(declined, np.nan, label), declined,
                       np.full(len(ticket), 0.3))


def test_a_follower_has_the_same_pool(shop, model):
    split = splits.random(shop, seed=0)
    pools = [Pool.from_interactions(split.train, 50, seed=0)
             for _ in range(2)]
    chief, follower = (AcquireLabels(
        pool, "random", Slow(split.train), batch_size=20, budget=15,
        expire_after=2, every=2, seed=1) for pool in pools)
    chief.set_model(model)
    for epoch in range(9):
        heard = chief.heard
        chief.on_epoch_begin(epoch)
        chief.on_epoch_end(epoch, {})
        news = json.loads(json.dumps(chief.news(heard)))
        follower.follow(epoch, news)
        assert pools[0].digest() == pools[1].digest()
        assert follower.exhausted == chief.exhausted
        assert follower.round == chief.round
    counts = pools[0].counts
    assert min(counts["declined"], counts["asked"], chief.round - 1) > 0
    assert not follower.oracle.waiting  # one oracle only
    pools[1].label[pools[1].labelled_rows()[0]] += 1
    assert pools[0].digest() != pools[1].digest()


def test_a_follower_of_a_resumed_chief(shop, model, tmp_path):
    """What only the journal of a killed chief has reaches the others."""
    split = splits.random(shop, seed=0)

    def made(journal=None):
        pool = Pool.from_interactions(split.train, 50, seed=0)
        found = AcquireLabels(pool, "random", Slow(split.train),
                              batch_size=20, journal=journal)
        found.set_model(model)
        return found

    killed = made(Journal(tmp_path / "journal.jsonl"))
    killed.on_epoch_begin(0)
    killed.on_epoch_end(0, {})
    chief, follower = made(Journal(tmp_path / "journal.jsonl")), made()
    assert chief.heard == 0
    chief.on_epoch_begin(0)
    chief.on_epoch_end(0, {})
    follower.follow(0, chief.news(0))
    assert chief.pool.digest() == follower.pool.digest()
    there = killed.pool.state > 1
    assert there.sum() > 50
    np.testing.assert_array_equal(
        follower.pool.label[there], killed.pool.label[there])


def test_one_worker_decides_alone():
    alone = Workers()
    assert alone.chief and alone.from_chief(lambda: {"a": 1}) == {"a": 1}
    alone.check_same("pool", "x", "")
    with alone.folder("here") as folder:
        assert folder.path == Path("here")


@pytest.fixture
def two():
    """The second of two workers; what the chief sends is a queue."""
    found = Workers(Cluster(("a:1", "b:1"), 1))
    found.queue = []
    found._sum = lambda numbers: tf.constant(
        found.queue.pop(0) + np.asarray(numbers))
    return found


def sent(text):
    """What the chief adds to the sums for a message."""
    content = text.encode()
    return [np.array([len(content)]), np.frombuffer(
        content + bytes(-len(content) % 4), np.int32)]


def test_others_hear_what_the_chief_decides(two):
    two.queue = sent('{"value": [1, null, "ü"]}')
    assert two.from_chief(lambda: 1 / 0) == [1, None, "ü"]
    assert not two.queue


def test_others_hear_why_the_chief_stops(two):
    two.queue = sent('{"error": "the oracle is away"}')
    with pytest.raises(WorkersStopped, match="the oracle is away"):
        two.from_chief(lambda: None)


def test_different_pools_are_one_error(two):
    two.queue = [np.zeros(16, np.int32)]
    with pytest.raises(WorkersStopped, match="worker 1 differs .* Mend it."):
        two.check_same("pool", "x", "Mend it.")


def test_a_chief_that_fails_tells_the_others(two):
    two.index, told = 0, []
    two._sum = lambda numbers: told.append(numbers) or tf.constant(numbers)
    with pytest.raises(KeyError):
        two.from_chief(lambda: {}["answer"])
    assert json.loads(told[1].tobytes()[:told[0][0]]) == {
        "error": "'answer'"}


# Two real processes. They kill themselves before a call of `KILL`.
PROGRAM = """
import os, sys
import tfrecal
from tfrecal import cli, pool, sequence
place, call = os.environ["KILL"].split(":")
owner = {"share": sequence.PoolSequence, "answer": pool.Pool}.get(place)
if owner:
    real, calls = getattr(owner, place), []
    def deadly(*args, **kwargs):
        calls.append(1)
        if len(calls) == int(call):
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    setattr(owner, place, deadly)
sys.exit(cli.main(sys.argv[1:]))
"""
OPTIONS = ["--data", "shop", "--encoder", "none", "--strategy", "bald",
           "--rounds", "2", "--batch", "100", "--initial", "0.1",
           "--final-epochs", "1", "--batch-size", "128", "--dropout", "0.1"]
SECONDS = 300  # for a pair of processes, on a busy machine


def pair(arguments, kill=("no:0", "no:0"), others=None):
    """Both workers of a run: exit codes and what they said."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = [subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, given)],
        env={**os.environ, "TF_CONFIG": tf_config(addresses, index),
             "KILL": kill[index], "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for index, given in enumerate((arguments, others or arguments))]
    try:
        said = [process.communicate(timeout=SECONDS)[0]
                for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], said


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers") / "run"
    codes, said = pair(["run", *OPTIONS, "-o", folder])
    assert codes == [0, 0], said
    return folder


def check_equal(found, expected, tolerance=0):
    """Histories, acquisitions and weights of two runs."""
    pd.testing.assert_frame_equal(
        *(part[0].drop(columns="part").astype(float)
          for part in (found, expected)),
        check_exact=not tolerance, rtol=tolerance, atol=tolerance)
    pd.testing.assert_frame_equal(
        found[1], expected[1], check_exact=not tolerance)
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        # Metrics hold each worker's own part.
        if "keras_api" not in name and not name.startswith(
                ("model/_means", "model/_rows", "model/_total")):
            np.testing.assert_allclose(
                value, expected[2][name], rtol=tolerance, atol=tolerance,
                err_msg=name)


@pytest.mark.large  # four pairs of processes, half a minute each or more
def test_killed_workers_go_on_and_end_as_undisturbed_ones(
        undisturbed, tmp_path):
    folder = tmp_path / "run"
    # A worker, while it trains epoch 1 (of three steps); the chief, with
    # answers that only the journal has.
    for arguments, kill in (
            (["run", *OPTIONS, "-o", folder], ("no:0", "share:5")),
            (["run", "--resume", folder], ("answer:1", "no:0"))):
        codes, said = pair(arguments, kill)
        dead = 0 if kill[0].startswith("answer") else 1
        assert codes[dead] == -signal.SIGKILL, said
        assert codes[1 - dead] == 1, said
        assert "tfrecal: All workers must stay" in said[1 - dead]
        assert "Traceback" not in said[1 - dead]
        assert RunFolder(folder).state["epoch"] == 0
    codes, said = pair(["run", "--resume", folder])
    assert codes == [0, 0], said
    check_equal(end(folder), end(undisturbed))
    # The chief measures; the others are told.
    assert (folder / "test.json").read_bytes() == (
        undisturbed / "test.json").read_bytes()
    ends = [text.splitlines()[-1] for text in said]
    assert ends[0] == ends[1] and "at the end on the test part: " in ends[0]
    assert [text.count("test part (600 rows") for text in said] == [1, 0]
    assert [len(record["ticket"]) for record
            in RunFolder(folder).journal().records] == [100] * 4


@pytest.mark.large  # three pairs of processes
def test_killed_workers_with_an_encoder(tmp_path, tiny_bert_folder):
    options = [*OPTIONS, "--encoder", tiny_bert_folder, "--tuning", "top_n",
               "--encoder-every", "2"]
    codes, said = pair(["run", *options, "-o", tmp_path / "one"])
    assert codes == [0, 0], said
    other = tmp_path / "other"
    codes, said = pair(["run", *options, "-o", other], ("no:0", "share:5"))
    assert codes == [1, -signal.SIGKILL], said
    assert RunFolder(other).state["epoch"] == 0
    codes, said = pair(["run", "--resume", other])
    assert codes == [0, 0], said
    check_equal(end(other), end(tmp_path / "one"))


@pytest.mark.large  # a run more
def test_two_workers_train_as_one(undisturbed, tmp_path, command_line):
    assert command_line("run", *OPTIONS, "-o", tmp_path / "run")[0] == 0
    check_equal(end(tmp_path / "run"), end(undisturbed), 1e-4)


@pytest.mark.large  # starts two processes
def test_what_is_wrong_on_one_worker_ends_both(undisturbed, tmp_path):
    # The chief refuses the folder; the other one is told.
    codes, said = pair(["run", *OPTIONS, "-o", undisturbed])
    assert codes == [2, 1], said
    assert "A new run needs a folder of its own" in said[0]
    assert "The chief has stopped: A new run needs a folder" in said[1]
    codes, said = pair(
        ["run", *OPTIONS, "-o", tmp_path / "run"],
        others=["run", *OPTIONS, "--seed", "1", "-o", tmp_path / "run"])
    assert codes == [1, 1] and not (tmp_path / "run").exists(), said
    assert all("Every worker must have the same options" in text
               for text in said)


DEVICES = """
import sys
import numpy as np
import tfrecal
import tensorflow as tf
import tf_keras
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 3)
from tfrecal import (AcquireLabels, Pool, ReplayOracle, TextEncoder, TwoTower,
                     datasets, splits)

def trained(strategy):
    data = datasets.shop(users=40, items=30, topics=4, ratings=500, seed=0)
    split = splits.random(data, seed=0)
    pool = Pool.from_interactions(split.train, initial=101, seed=0)
    with strategy.scope():
        model = TwoTower.from_interactions(
            data, dropout=0.1, embedding_dim=8, mean=3.0,
            encoder=TextEncoder(sys.argv[1], tuning="top_n", top_n=1))
        # Adam would make steps of noise where a gradient is zero.
        model.compile(encoder_every=2, encoder_optimizer=tf_keras.optimizers
                      .SGD(2.0))
    trained = model.candidate_tower.encoder.trainable_weights
    before = [weight.numpy() for weight in trained]
    acquire = AcquireLabels(pool, "random", ReplayOracle(split.train),
                            batch_size=60, rounds=2)
    # Three batches, the last of one row; then more.
    history = model.fit(pool.sequence(50), epochs=3, verbose=0,
                        callbacks=[acquire]).history
    moved = max(abs(weight.numpy() - old).max()
                for weight, old in zip(trained, before))
    assert moved > 2e-3, moved  # far more than the tolerance below
    return model, history

one, expected = trained(tf.distribute.get_strategy())
three, found = trained(tf.distribute.MirroredStrategy(
    [f"CPU:{n}" for n in range(3)]))
assert found["rows"] == [101, 161, 221], found
for name, values in expected.items():
    if "seconds" not in name:
        np.testing.assert_allclose(found[name], values, rtol=1e-4)
assert len(one.trainable_variables) == len(three.trainable_variables)
for single, copies in zip(one.trainable_variables,
                          three.trainable_variables):
    values = [copy.numpy() for copy in copies.values]
    assert len(values) == 3
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(values[0], values[2])
    np.testing.assert_allclose(values[0], single, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.large  # builds the graph of three replicas
def test_three_devices_train_as_one(tiny_bert_folder):
    subprocess.run([sys.executable, "-c", DEVICES, tiny_bert_folder],
                   check=True, timeout=2 * SECONDS)
