"""Requests that are run together, and those that must not be."""
from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from google.protobuf import text_format

from tfrecal.serving.server.batching import Batcher
from tfrecal.serving.server.config_protos import BatchingParameters
from tfrecal.serving.server.errors import ServingError

CODE = grpc.StatusCode


class Model:
    """Doubles its first input; counts calls; fails on 13."""

    def __init__(self):
        self.calls = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, arrays, timeout):
        self.gate.wait(10)
        self.calls.append([len(a) if a.ndim else None for a in arrays])
        if np.any(arrays[0] == 13):
            raise ServingError(CODE.INVALID_ARGUMENT, "thirteen")
        return [2 * arrays[0], np.atleast_1d(arrays[-1]).sum(keepdims=True)
                if len(arrays) > 1 and arrays[-1].ndim == 0
                else arrays[0][:, np.newaxis]]


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def make():
    made = []

    def make_batcher(text):
        made.append(Batcher(text_format.Parse(text, BatchingParameters())))
        return made[-1]

    yield make_batcher
    for batcher in made:
        batcher.stop()


def run_all(batcher, model, requests, timeout=None):
    """Answers or errors of requests sent at the same time."""
    model.gate.clear()

    def run(arrays):
        try:
            return batcher.run("key", model, arrays, timeout)
        except ServingError as error:
            return error

    with ThreadPoolExecutor(len(requests)) as pool:
        futures = []
        for arrays in requests:  # in this order
            futures.append(pool.submit(run, arrays))
            time.sleep(0.02)
        model.gate.set()
        return [future.result() for future in futures]


ONE_THREAD = "num_batch_threads { value: 1 } "


def test_waiting_requests_are_joined_and_cut_apart(make, model):
    batcher = make(ONE_THREAD)
    requests = [[np.arange(n) + 100 * n] for n in (1, 2, 1, 3)]
    found = run_all(batcher, model, requests)
    for (values,), (doubled, column) in zip(requests, found):
        np.testing.assert_array_equal(doubled, 2 * values)
        np.testing.assert_array_equal(column[:, 0], values)
    assert model.calls == [[1], [6]]


def test_batches_are_no_larger_than_allowed(make, model):
    batcher = make(ONE_THREAD + "max_batch_size { value: 3 }")
    run_all(batcher, model, [[np.arange(2)]] * 4)
    assert model.calls == [[2]] * 4
    with pytest.raises(ServingError, match="Task size 4 is larger than "
                       "maximum input batch size 3"):
        batcher.run("key", model, [np.arange(4)], None)
    split = make("enable_large_batch_splitting { value: true } "
                 "max_batch_size { value: 3 }")
    assert len(split.run("key", model, [np.arange(4)], None)[0]) == 4


def test_a_batch_waits_for_more_until_its_time_is_over(make, model):
    batcher = make("batch_timeout_micros { value: 200000 }")
    run_all(batcher, model, [[np.arange(1)]] * 3)
    assert model.calls == [[3]]


def test_a_failure_is_of_one_request_only(make, model):
    batcher = make(ONE_THREAD)
    found = run_all(batcher, model, [
        [np.array([n])] for n in (1, 2, 13, 4)])
    assert [getattr(f, "message", None) or f[0].tolist() for f in found] == [
        [2], [4], "thirteen", [8]]


def test_what_cannot_be_joined_runs_alone(make, model):
    batcher = make(ONE_THREAD)
    scalar = [np.arange(2), np.array(5)]
    uneven = [np.arange(2), np.arange(3)]
    none = [np.arange(0)]
    found = run_all(batcher, model, [scalar, scalar, uneven, uneven, none])
    assert all(not isinstance(f, Exception) for f in found)
    assert sorted(model.calls, key=str) == sorted(
        [[2, None], [2, None], [2, 3], [2, 3], [0]], key=str)


def test_inner_shapes_are_not_mixed_and_blank_inputs_are_shared(make, model):
    batcher = make(ONE_THREAD)
    blank = np.zeros([0, 0])
    found = run_all(batcher, model, [
        [np.zeros([1, 1])], [np.zeros([1, 2]), blank],
        [np.ones([2, 2]), blank], [np.ones([1, 3]), blank]])
    assert [f[0].shape for f in found] == [(1, 1), (1, 2), (2, 2), (1, 3)]
    assert sorted(model.calls) == [[1], [1, 0], [3, 0]]


def test_a_full_queue_is_unavailable(make, model):
    batcher = make(ONE_THREAD + "max_batch_size { value: 1 } "
                   "max_enqueued_batches { value: 2 }")
    found = run_all(batcher, model, [[np.arange(1)]] * 5)
    full = [f for f in found if isinstance(f, ServingError)]
    assert len(full) == 2
    assert full[0].code == CODE.UNAVAILABLE
    assert full[0].message.startswith("The batch scheduling queue to which")


def test_a_request_whose_time_is_over_is_not_run(make, model):
    batcher = make(ONE_THREAD)
    model.gate.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.run, "key", model, [np.arange(1)], None)
        time.sleep(0.05)
        second = pool.submit(batcher.run, "key", model, [np.arange(1)], 0.01)
        time.sleep(0.05)
        model.gate.set()
        assert first.result()[0].tolist() == [0]
        with pytest.raises(ServingError) as seen:
            second.result()
    assert seen.value.code == CODE.RESOURCE_EXHAUSTED
    assert model.calls == [[1]]


@pytest.mark.parametrize("text", [
    "max_batch_size { value: 0 }", "num_batch_threads { value: 0 }",
    "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]"])
def test_bad_parameters(make, text):
    with pytest.raises(ServingError) as seen:
        make(text)
    assert seen.value.code == CODE.INVALID_ARGUMENT
