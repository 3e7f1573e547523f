"""Texts that a client tokenises for an export whose graph cannot."""
from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from encoder_contract import MOST, TEXTS, encoder_of, write
from encoder_kinds import KINDS
from exports import Exported

from tfrecal.export.export_model import export_model
from tfrecal.export.manifest import read_manifest
from tfrecal.serving.client import Recommender, ServingUnavailable
from tfrecal.serving.server.server import Server, options_of
from tfrecal.text.tokenizers.client_tokenizer import TextIds

pytestmark = pytest.mark.large  # half a minute
# Of the model server's own kind of batches.
BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 300000 }
allowed_batch_sizes: 32
pad_variable_length_inputs: true
"""


@pytest.fixture(scope="module", params=["roberta", "gpt2"])
def exported(request, shop, tmp_path_factory):
    made = write(
        tmp_path_factory.mktemp(request.param), KINDS[request.param])
    return Exported(shop, encoder_of(made), made.folder)


@pytest.fixture
def expected(exported):
    """Vectors of searches by the Keras model."""
    def vectors(texts):
        query = exported.model.query_tower
        encoder = exported.model.candidate_tower.encoder
        vector = query.standardise(encoder(tf.constant(texts)))
        return tf.split(query.search(vector), 2, axis=1)[1].numpy()
    return vectors


def served(exported, **options):
    server = Server(options_of(
        port=None, model_base_path=str(exported.folder),
        model_name="recommender", **options))
    server.start()
    return server


@pytest.fixture(scope="module")
def address(exported):
    server = served(exported)
    yield f"localhost:{server.grpc_port}"
    server.stop(0)


def test_the_export_brings_what_a_client_needs(exported):
    manifest = read_manifest(exported.path)
    assert manifest["tokenizer"] == "client"
    assert manifest["tokenizer_file"] == "tokenizer.json"
    for folder in (exported.path, exported.folder):
        ids = TextIds.from_export(folder)
        encoder = exported.model.candidate_tower.encoder
        assert ids(TEXTS) == encoder.tokenize(tf.constant(TEXTS)).to_list()
        assert max(map(len, ids(TEXTS))) == MOST


def test_no_tensorflow_is_loaded(exported):
    code = ("import sys; from tfrecal.serving.client import Recommender; "
            f"Recommender('localhost:1', tokenizer={str(exported.folder)!r})"
            ".request('search', texts=['a chair']); "
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_client_searches(exported, address, expected):
    texts = [text for text in TEXTS if text]
    candidates = exported.blocks([])[1]["retrieval"].numpy()[1:]
    with Recommender(address, timeout=30, tokenizer=exported.folder) as client:
        vectors = client.embed_queries(texts=texts).vectors
        np.testing.assert_allclose(vectors, expected(texts), atol=1e-4)
        found = client.search(texts, k=3)
        items = client.embed_candidates(texts=texts).vectors
    best = np.argmax(vectors @ candidates.T, axis=1)
    assert [ids[0] for ids in found.item_ids] == [
        str(i) for i in exported.pool.item_ids[best]]
    assert items.shape == (len(texts), 4) and np.abs(items).max() > 0


@pytest.mark.parametrize("batching", [False, True])
def test_a_client_ranks_new_items(exported, address, batching):
    texts = [text for text in TEXTS if text][:3]
    item, user = str(exported.pool.item_ids[0]), exported.pool.user_ids[:1]
    with Recommender(address, timeout=30, tokenizer=exported.folder,
                     batching=batching, max_batch=4) as client:
        query = client.embed_queries(user).vectors[0]
        own = client.embed_candidates([item]).vectors
        items = client.embed_candidates(texts=texts).vectors
        found = client.rank(
            [user[0], user[0]], items=[[item, "new", "new", "no"], ["new"]],
            texts=[["", *texts[:2], ""], texts[2:]])
        assert client.search([""]).source == ["popular"]
    np.testing.assert_allclose(found.scores[0][:3], np.concatenate(
        [own, items[:2]]) @ query, rtol=1e-4, atol=1e-4)
    assert found.scores[0][3] == -np.inf and found.order[0][3] == 3
    np.testing.assert_allclose(found.scores[1], items[2:] @ query, atol=1e-4)
    with Recommender(address, timeout=30, batching=True) as client:
        with pytest.raises(ValueError, match="give `tokenizer`"):
            client.rank(user, texts=[texts])


def test_without_the_tokenizer_the_cure_is_told(exported, address):
    with Recommender(address, timeout=30) as client:
        with pytest.raises(ValueError, match="give `tokenizer`"):
            client.search(["a chair"])
        assert client.recommend(["nobody"]).item_ids[0]


def test_batches_of_texts_of_different_length(exported, expected, tmp_path):
    """TensorFlow Serving pads rows with the first element of a tensor."""
    parameters = tmp_path / "batching.config"
    parameters.write_text(BATCHING)
    server = served(exported, enable_batching=True,
                    batching_parameters_file=str(parameters))
    texts = ["a", "the blue chair and the tower", "word chair " * 9]
    try:
        with Recommender(f"localhost:{server.grpc_port}", timeout=30,
                         batching=True, tokenizer=exported.folder,
                         max_batch=1) as client:
            found = client.embed_queries(
                ["nobody"] * 3, history=[[]] * 3, texts=texts).vectors
        np.testing.assert_allclose(found, expected(texts), atol=1e-4)
    finally:
        server.stop(0)


@pytest.mark.parametrize("padding", ["left", "right", "both", "between"])
def test_padding_may_be_anywhere(exported, expected, padding):
    (ids,) = TextIds.from_export(exported.folder)(["the blue chair"])
    rows = {"left": [-1, -1, *ids], "right": [*ids, -1, -1],
            "both": [-1, *ids, -1], "between": [*ids[:2], -1, *ids[2:]]}
    found = exported.by_session("embed_queries", {
        "token_ids": np.array([rows[padding]], np.int32)})
    np.testing.assert_allclose(
        found["embedding"], expected(["the blue chair"]), atol=1e-5)


def test_an_encoder_of_another_precision_is_served(exported, tmp_path):
    path = export_model(exported.model, tmp_path / "m", pool=exported.pool,
                        precision="bfloat16")
    assert read_manifest(path)["encoder"]["cosine"] > 0.99


def test_the_command_line(exported, address, command_line):
    code, said = command_line(
        "recommend", "--text", "the blue chair", "--address", address,
        "--timeout", 30, "--k", 3, "--tokenizer", exported.folder)
    assert code == 0 and len(said.splitlines()) == 4
    assert said.endswith("by text\n")
    code, said = command_line(
        "recommend", "--text", "the blue chair", "--explain-request",
        "--tokenizer", exported.folder)
    request = json.loads(said)["inputs"]["token_ids"]
    assert code == 0 and request["int_val"] == TextIds.from_export(
        exported.folder)(["the blue chair"])[0]
    code, said = command_line(
        "recommend", "--text", "chair", "--address", address)
    assert code == 2 and "--tokenizer" in said and len(
        said.splitlines()) == 1


@pytest.mark.parametrize("damage, parts", [
    (lambda extra: shutil.rmtree(extra), ["no version"]),
    (lambda extra: (extra / "tokenizer.json").unlink(), ["tokenizer.json"]),
    (lambda extra: (extra / "tokenizer.json").write_text("{"),
     ["tokenizer.json"]),
    (lambda extra: (extra / "tfrecal.json").write_text("{"),
     ["tfrecal.json"])])
def test_an_export_that_is_not_whole(exported, damage, parts, tmp_path,
                                     command_line):
    folder = tmp_path / "model"
    shutil.copytree(exported.path / "assets.extra",
                    folder / "3" / "assets.extra")
    damage(folder / "3" / "assets.extra")
    with pytest.raises(ValueError) as error:
        Recommender("localhost:1", tokenizer=folder)
    for part in parts:
        assert part in str(error.value)
    code, said = command_line("recommend", "--text", "a", "--tokenizer",
                              folder)
    assert code == 2 and len(said.splitlines()) == 1


def test_an_export_that_tokenises_itself(shop, tiny_bert_folder, tmp_path):
    """`tokenizer` may be given for every export."""
    from tfrecal.text.encoder import TextEncoder
    found = Exported(shop, TextEncoder(tiny_bert_folder, max_length=12),
                     tmp_path)
    assert TextIds.from_export(found.folder) is None
    client = Recommender("localhost:1", tokenizer=found.folder, timeout=0.1)
    assert client.request("search", texts=["a"]).inputs["text"]
    with pytest.raises(ServingUnavailable):
        client.search(["a"])
