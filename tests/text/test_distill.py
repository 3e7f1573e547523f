"""Students, the folder they are written to, and their exports."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import tiny_vocabulary, write_tiny_bert

from tfrecal import Pool, TextEncoder, TwoTower
from tfrecal.data.sets.shop import WORDS
from tfrecal.data.templates import default_template
from tfrecal.export.export_model import export_model
from tfrecal.export.manifest import read_manifest
from tfrecal.runs.config import RunConfig
from tfrecal.runs.tuning.space import default_space
from tfrecal.text.distill import RECORD, distill, student_of, with_pieces
from tfrecal.text.layers import int8

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A random BERT of 3 layers."""
    folder = tmp_path_factory.mktemp("teacher")
    write_tiny_bert(folder, tiny_vocabulary(), layers=3, width=16)
    return TextEncoder(str(folder), max_length=32)


@pytest.fixture(scope="module")
def texts(shop):
    return default_template(shop.items)(shop.items)


def cosine(one, two):
    return np.sum(one * two, 1) / (
        np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1))


class TestWithPieces:
    def test_pieces_are_words_of_the_texts(self):
        rng = np.random.default_rng(0)
        found = with_pieces(["The Cat's nap; year: 1995", ""], 12, rng)
        assert found[:2] == ["The Cat's nap; year: 1995", ""]
        words = {"the", "cat's", "nap", "year", "1995"}
        assert len(found) == len(set(found)) == 12
        for piece in found[2:]:
            assert piece and set(piece.lower().split()) <= words

    def test_ends_where_there_are_no_more(self):
        found = with_pieces(["one"], 100, np.random.default_rng(0))
        assert set(found) == {"one", "one one"}
        assert with_pieces(["", "!"], 9, np.random.default_rng(0)) == ["", "!"]

    def test_keeps_all_texts(self):
        texts = ["a b", "c d", "e f"]
        assert with_pieces(texts, 2, np.random.default_rng(0)) == texts


class TestDistill:
    @pytest.mark.large
    def test_student_learns_the_teachers_vectors(
            self, teacher, texts, tmp_path):
        made = {}
        for epochs in (1, 30):
            made[epochs] = distill(
                teacher, texts, tmp_path / str(epochs), layers=1,
                samples=300, epochs=epochs, batch_size=32)
        assert made[30]["error"] < 0.7 * made[1]["error"]
        student = student_of(teacher, tmp_path / "30")
        assert student.architecture.config.num_hidden_layers == 1
        found, wanted = student.encode(texts), teacher.encode(texts)
        error = np.sum((found - wanted) ** 2) / np.sum(
            (wanted - wanted.mean(0)) ** 2)
        assert error < 0.7
        told = json.loads((tmp_path / "30" / RECORD).read_text())
        assert told == made[30]
        assert told["teacher"] == teacher.weights_fingerprint()

    def test_all_layers_but_the_last_start_as_the_teachers(
            self, teacher, texts, tmp_path):
        # No step of training: weights as they were picked.
        from tfrecal.text import student_checkpoint
        student_checkpoint.begin(teacher, tmp_path, 2)
        student = student_of(teacher, tmp_path)
        own = {w.name.split("/", 2)[2]: w.numpy()
               for w in teacher.base.weights}
        for weight in student.base.weights:
            name = weight.name.split("/", 2)[2].replace(
                "layer_._1", "layer_._2")
            np.testing.assert_array_equal(weight.numpy(), own[name])

    @pytest.mark.large
    def test_static_student_is_a_mean_of_token_vectors(
            self, teacher, texts, tmp_path):
        distill(teacher, texts, tmp_path / "s", layers=0, samples=100,
                epochs=2, batch_size=32)
        student = student_of(teacher, tmp_path / "s")
        one, two, both = student.encode(["the", "with", "the with"])
        ends = student.encode([""])[0]
        assert np.linalg.norm(one - two) > 0.01
        # [CLS] a [SEP], [CLS] b [SEP] and [CLS] a b [SEP]: but for places,
        # which hardly moved.
        mean = (3 * one + 3 * two - 2 * ends) / 4
        assert np.linalg.norm(mean - both) < 0.2 * np.linalg.norm(both - ends)

    @pytest.mark.large
    def test_the_same_seed_gives_the_same_student(
            self, teacher, texts, tmp_path):
        vectors = []
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            distill(teacher, texts, tmp_path / name, layers=1, samples=80,
                    epochs=1, batch_size=16, seed=seed)
            vectors.append(student_of(teacher, tmp_path / name).encode(texts))
        np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
        assert np.abs(vectors[0] - vectors[2]).max() > 1e-3

    @pytest.mark.parametrize("layers, pooling", [(0, "mean"), (1, "cls")])
    def test_a_folder_says_how_its_student_pools(
            self, teacher, tmp_path, layers, pooling):
        """A static one has no token that speaks for a whole text."""
        from tfrecal.text import student_checkpoint
        first = TextEncoder(teacher.checkpoint, pooling="cls", max_length=32)
        student_checkpoint.begin(first, tmp_path, layers)
        assert TextEncoder(str(tmp_path)).pooling == pooling
        student = student_of(first, tmp_path)
        assert student.pooling == pooling
        one, two = student.encode(["the", "with"])
        assert np.abs(one - two).max() > 0.01

    def test_a_static_encoder_is_not_tuned_by_layers(
            self, teacher, shop, tmp_path):
        from tfrecal.text import student_checkpoint
        student_checkpoint.begin(teacher, tmp_path, 0)
        for tuning in ("top_n", "lora", "bitfit"):
            with pytest.raises(ValueError, match="there are no layers"):
                TextEncoder(str(tmp_path), tuning=tuning)
        assert TextEncoder(str(tmp_path), tuning="full").trainable_weights
        config = RunConfig(data="shop", encoder=str(tmp_path))
        assert default_space(config, shop)["tuning"] == ["frozen", "full"]

    def test_weights_of_lora_are_in_the_students_layers(
            self, teacher, tmp_path):
        from tfrecal.text import student_checkpoint
        tuned = TextEncoder(teacher.checkpoint, tuning="lora", max_length=32)
        for weight in tuned.lora.weights:
            weight.assign(tf.fill(weight.shape, 0.1))
        student_checkpoint.begin(tuned, tmp_path, 3)
        np.testing.assert_allclose(
            student_of(tuned, tmp_path).encode(["with the"]),
            tuned.encode(["with the"]), atol=1e-4)

    @pytest.mark.parametrize("options, message", [
        ({"layers": 3}, "from 0 to 2"), ({"layers": -1}, "from 0 to 2"),
        ({"texts": [" "]}, "learns from texts"),
        ({"samples": 0}, "samples=0"), ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0")])
    def test_refuses(self, teacher, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            distill(teacher, options.pop("texts", ["a"]), tmp_path / "s",
                    **options)
        assert not list(tmp_path.iterdir())

    def test_refuses_a_folder_that_exists(self, teacher, tmp_path):
        with pytest.raises(ValueError, match="must not exist"):
            distill(teacher, ["a"], tmp_path)

    def test_a_failure_leaves_nothing(self, teacher, tmp_path, monkeypatch):
        from tfrecal.text import distill as module
        monkeypatch.setattr(module, "_fit", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            distill(teacher, ["a b"], tmp_path / "s", layers=1)
        assert not list(tmp_path.iterdir())


class TestInt8:
    def test_product_is_near_that_of_floats(self):
        rng = np.random.default_rng(0)
        values = rng.normal(size=(7, 64)).astype(np.float32)
        values[3] = 0
        kernel = rng.normal(size=(64, 32)).astype(np.float32)
        kernel[:, 5] *= 100  # a column has a scale of its own
        kernel[:, 6] = 0
        found = int8.product(
            tf.constant(values), int8.quantise(tf.constant(kernel))).numpy()
        wanted = values @ kernel
        away = np.sqrt(np.mean((found - wanted) ** 2, axis=0))
        # Activations are about 1, kernels rounded to 1/64 of the largest.
        size = np.linalg.norm(kernel, axis=0)
        assert (away < 0.03 * size + 1e-6).all()
        np.testing.assert_allclose(found[3], 0, atol=1e-5)

    def test_largest_values_do_not_saturate(self):
        values = tf.constant(np.tile([[1.0, -1.0]], (2, 32)), tf.float32)
        kernel = tf.constant(np.tile([[1.0], [-1.0]], (32, 4)), tf.float32)
        np.testing.assert_allclose(
            int8.product(values, int8.quantise(kernel)), 64.0, rtol=1e-4)

    def test_table_rows(self):
        rows = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
        rows[2] = 0
        found = int8.Table(tf.constant(rows)).gather(tf.constant([2, 4]))
        np.testing.assert_allclose(found, rows[[2, 4]], atol=0.02)

    def test_served_layers_differ_from_each_other(self, teacher, texts):
        """Kernels are kept from the first call: each layer its own."""
        wanted = teacher.encode(texts)
        served = teacher.for_serving("int8")
        for _ in range(2):
            assert cosine(
                served(tf.constant(texts)).numpy(), wanted).min() > 0.98
        assert served.bytes < teacher.for_serving("float32").bytes / 2

    def test_refuses_an_unknown_precision(self, teacher):
        with pytest.raises(ValueError, match="`precision` must be one of"):
            teacher.for_serving("int4")


@pytest.fixture(scope="module")
def trained(shop, teacher):
    pool = Pool.from_interactions(shop, initial=0.5, seed=0)
    model = TwoTower.from_interactions(
        shop, encoder=teacher, embedding_dim=8, seed=0)
    model.compile()
    model.fit(pool.sequence(256), epochs=2, verbose=0)
    return model, pool


class TestExport:
    @pytest.mark.large
    def test_a_student_reads_searches(self, trained, texts, tmp_path):
        model, pool = trained
        teacher = model.candidate_tower.encoder
        student = TextEncoder(teacher.checkpoint, max_length=32)
        for weight in student.base.weights:
            weight.assign(weight * 1.02)
        vectors = {}
        for name, options in (
                ("own", {}), ("student", {"encoder": student}),
                ("int8", {"precision": "int8"})):
            path = export_model(
                model, tmp_path / name, pool=pool, k=5, **options)
            made = tf.saved_model.load(str(path)).signatures
            vectors[name] = made["embed_queries"](
                text=tf.constant(texts), user_id=tf.zeros([0], tf.string),
                history=tf.zeros([0, 0], tf.string))["embedding"].numpy()
            items = made["embed_candidates"](
                item_id=tf.constant([str(i) for i in pool.item_ids]),
                text=tf.zeros([0], tf.string))
            vectors[name, "items"] = items["embedding"].numpy()
            manifest = read_manifest(path)
            assert ("encoder" in manifest) == bool(options)
        tower = model.query_tower
        standard = tower.standardise(student.encode(texts))
        np.testing.assert_allclose(
            vectors["student"][:, :8], tower.search(standard)[:, 8:],
            atol=1e-5)
        for name in ("student", "int8"):
            assert np.abs(vectors[name] - vectors["own"]).max() > 1e-5
            np.testing.assert_array_equal(
                vectors[name, "items"], vectors["own", "items"])
        assert cosine(vectors["int8"], vectors["own"]).mean() > 0.98
        told = manifest["encoder"]
        assert told["precision"] == "int8" and told["cosine"] > 0.95

    def test_refuses_an_encoder_of_another_space(
            self, trained, tmp_path_factory, tmp_path):
        model, pool = trained
        other = tmp_path_factory.mktemp("other")
        write_tiny_bert(other, tiny_vocabulary(), width=16, seed=7)
        with pytest.raises(ValueError, match="tfrecal distill"):
            export_model(model, tmp_path / "m", pool=pool,
                         encoder=TextEncoder(str(other), max_length=32))
        wide = tmp_path_factory.mktemp("wide")
        write_tiny_bert(wide, tiny_vocabulary())
        with pytest.raises(ValueError, match="width 32"):
            export_model(model, tmp_path / "m", pool=pool,
                         encoder=TextEncoder(str(wide), max_length=32))

    def test_refuses_a_precision_without_texts(self, shop, tmp_path):
        pool = Pool.from_interactions(shop, initial=0.5, seed=0)
        with pytest.raises(ValueError, match="without an encoder"):
            export_model(TwoTower.from_interactions(shop), tmp_path / "m",
                         pool=pool, precision="int8")


@pytest.mark.large
def test_from_a_run_to_a_small_export(
        command_line, tiny_bert_folder, shop, tmp_path):
    shop.items.to_csv(tmp_path / "items.csv")
    shop.frame.to_csv(tmp_path / "log.csv", index=False)
    code, told = command_line(
        "run", "--data", tmp_path / "log.csv", "--items",
        tmp_path / "items.csv", "--encoder", tiny_bert_folder, "--oracle",
        "people", "--rounds", "1", "--final-epochs", "1", "-o",
        tmp_path / "run", "--quiet")
    assert code == 0, told
    (tmp_path / "searches.txt").write_text(f"{WORDS[0]}\n{WORDS[1]}\n")
    distil = ("distill", "--run", tmp_path / "run", "--to",
              tmp_path / "student", "--layers", "1", "--samples", "300",
              "--epochs", "20", "--texts", tmp_path / "searches.txt",
              "--quiet")
    (tmp_path / "latin.txt").write_bytes("Bär".encode("latin-1"))
    code, told = command_line(*distil[:-2], tmp_path / "latin.txt")
    assert code == 2 and "in UTF-8" in told and "latin.txt" in told
    code, told = command_line(*distil)
    assert code == 0 and "mean cosine" in told, told
    code, told = command_line(*distil)
    assert code == 2 and "must not exist" in told
    export = "export", "--run", tmp_path / "run", "--to", tmp_path / "m"
    # Of a BERT at random, one layer learns little in so few steps.
    code, told = command_line(*export, "--encoder", tmp_path / "student")
    assert code == 2 and "mean cosine" in told, told
    code, told = command_line(*export, "--precision", "int8",
                              "--encoder", tiny_bert_folder)
    assert code == 0 and "encoder in int8" in told, told
    assert read_manifest(tmp_path / "m" / "1")["encoder"]["cosine"] > 0.9


@pytest.mark.large
def test_int8_of_minilm(minilm_folder):
    encoder = TextEncoder("minilm")
    texts = ["toy story", "a space adventure for children", "Heat (1995)"]
    found = encoder.for_serving("int8")(tf.constant(texts)).numpy()
    assert cosine(found, encoder.encode(texts)).min() > 0.98


def test_int8_without_onednn_is_one_error():
    done = subprocess.run(
        [sys.executable, "-c", (
            "import tfrecal, tensorflow as tf\n"
            "from tfrecal.text.layers import int8\n"
            "int8.product(tf.ones([1, 8]), int8.quantise(tf.ones([8, 8])))")],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True, text=True)
    assert done.returncode and "RuntimeError: int8 layers need oneDNN" in (
        done.stderr)
