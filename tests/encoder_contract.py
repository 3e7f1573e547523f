"""`EncoderContract`: what holds for every architecture of `TextEncoder`.

It compares with Hugging Face's own classes: the same tokens, vectors and
gradients, trained, exported and served. The reference runs one text at a
time, so that it knows nothing of padding. All weights are at random, biases
and norms too, so that each one counts.
"""
from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
import transformers
from conftest import tiny_vocabulary
from exports import Exported
from safetensors.numpy import save_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import ByteLevelBPETokenizer
from transformers.modeling_tf_pytorch_utils import (
    apply_transpose,
    convert_tf_weight_name_to_pt_weight_name,
)

from tfrecal.export.manifest import read_manifest
from tfrecal.serving.client.client import Recommender
from tfrecal.serving.server.server import Server, options_of
from tfrecal.text import encode_many
from tfrecal.text.encoder import TextEncoder

TEXTS = [
    "title: the blue chair; price: 12.50",
    "",
    "and",
    "and",
    "the Blue CHAIR of 1,234, and 7, ``or'' it's",
    "Ünïcödé, ß, ½ and x² for 5 €",
    "wide １２, ΣΑΣ, İstanbul, 东京 tower",
    "👨‍👩‍👧 of the ☃️ \t and\n more \u00a0 space \u3000 here ",
    "word chair " * 30,
    "a b c d e f g h i j",
    "и" * 60 + " - ไทย" * 3,
]
MOST = 24
WIDTH = 32
BERT_SIZES = dict(
    hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=48, max_position_embeddings=40,
)


class Kind(NamedTuple):
    """How a tiny checkpoint of one kind is made."""

    config: dict
    model: str
    tokenizer: Callable  # writes its files into a folder, returns its size
    reads: str  # class of Hugging Face's tokenizer
    pooling: str = "mean"
    fixed: tuple[str, ...] = ()  # weights that `full` does not train
    top: tuple[str, ...] = ()  # trained with the last layer
    in_graph: bool = True  # whether texts are tokenised in the graph


_BRACKETS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def word_pieces(folder, special=_BRACKETS):
    pieces = [*special, *tiny_vocabulary()[5:]]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return len(pieces)


def mpnet_word_pieces(folder):
    return word_pieces(folder, ("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))


def albert_pieces(folder):
    return sentence_pieces(folder, ["[CLS]", "[SEP]", "[MASK]"])


def xlnet_pieces(folder):
    return sentence_pieces(folder, ["<sep>", "<cls>", "<mask>"])


def sentence_pieces(folder, special):
    """A tiny SentencePiece model, with pieces such as "1," and "90,"."""
    words = tiny_vocabulary()[60:]
    lines = [" ".join(words[n: n + 7]) for n in range(0, len(words), 7)]
    numbers = ["1,234 and 90, 90, 7,5 chairs, 12.50, \"it's the chair\""] * 9
    path = folder / "spiece.model"
    with open(path, "wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS[:6] + numbers + 3 * lines),
            model_writer=file, vocab_size=150, hard_vocab_limit=False,
            control_symbols=special, pad_id=0, unk_id=1, bos_id=-1, eos_id=-1,
            pad_piece="<pad>", unk_piece="<unk>", minloglevel=2,
            user_defined_symbols=["\u258190,", "1,"])
    return SentencePieceProcessor(model_file=str(path)).get_piece_size()


def roberta_pairs(folder):
    return byte_pairs(folder, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])


def gpt2_pairs(folder):
    return byte_pairs(folder, ["<|endoftext|>"])


def byte_pairs(folder, special):
    """vocab.json and merges.txt of a tiny byte-level BPE."""
    made = ByteLevelBPETokenizer()
    made.train_from_iterator(
        TEXTS + [" ".join(tiny_vocabulary()[60:])] * 3, vocab_size=340,
        min_frequency=2, special_tokens=special, show_progress=False)
    made.save_model(str(folder))
    return made.get_vocab_size()


class Checkpoint(NamedTuple):
    folder: object
    kind: Kind
    model: object
    tokenizer: object

    def hidden(self, texts) -> list:
        """`[tokens, width]` of each text by Hugging Face, one by one."""
        found = []
        for text in texts:
            batch = self.tokenizer(
                text, truncation=True, max_length=MOST, return_tensors="np")
            some = batch["input_ids"].size
            found.append(self.model(dict(batch)).last_hidden_state[0]
                         if some else tf.zeros([0, WIDTH]))
        return found

    def vectors(self, texts):
        return self.pool(self.hidden(texts), self.kind.pooling)

    def pool(self, hidden, pooling):
        """`[texts, width]`; zeros where there is no token."""
        pooled = {"mean": lambda rows: tf.reduce_mean(rows, 0),
                  "cls": lambda rows: rows[0], "last": lambda rows: rows[-1]}
        return tf.stack([pooled[pooling](rows) if len(rows)
                         else tf.zeros([WIDTH]) for rows in hidden])


def write_torch_weights(folder, model, prefix=""):
    """model.safetensors in the layout of PyTorch."""
    found = {}
    for weight in model.weights:
        name, transpose = convert_tf_weight_name_to_pt_weight_name(
            weight.name, model.base_model_prefix + ".", weight.shape)
        values = apply_transpose(transpose, weight.numpy(), pt_to_tf=False)
        found[prefix + name] = np.ascontiguousarray(values)
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})


def write(folder, kind: Kind) -> Checkpoint:
    size = kind.tokenizer(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": kind.reads}))
    of_model = getattr(transformers, kind.model)
    model = of_model(of_model.config_class(vocab_size=size, **kind.config))
    model(model.dummy_inputs)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        values = rng.normal(0, 0.3, weight.shape) + ("gamma" in weight.name)
        weight.assign(values.astype(np.float32))
    model.config.save_pretrained(folder)
    write_torch_weights(folder, model)
    tokenizer = getattr(transformers, kind.reads).from_pretrained(folder)
    return Checkpoint(folder, kind, model, tokenizer)


def encoder_of(made, **options):
    return TextEncoder(made.folder, max_length=MOST, **options)


def short_name(weight):
    """Without the name of the model's instance."""
    return weight.name.partition("/")[2]


def trained_names(made, top_n):
    found = set()
    for weight in made.model.weights:
        name = short_name(weight)
        layer = re.search(r"(?:layer|h)_\._(\d)", name)
        if layer and int(layer[1]) >= 2 - top_n:
            found.add(name)
        found |= {name for top in made.kind.top if f"/{top}/" in f"/{name}"}
    return found


class EncoderContract:
    """What holds for every `Architecture`; a subclass sets `kind`."""

    kind: Kind
    pytestmark = pytest.mark.large  # twenty seconds a kind

    @pytest.fixture(scope="class")
    def made(self, tmp_path_factory):
        return write(tmp_path_factory.mktemp("made"), self.kind)

    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))

    def test_vectors_equal_hugging_face(self, made):
        encoder, hidden = encoder_of(made), made.hidden(TEXTS)
        assert encoder.pooling == made.kind.pooling
        for pooling in ("mean", "cls", "last"):
            encoder.pooling = pooling
            np.testing.assert_allclose(
                encoder(tf.constant(TEXTS)), made.pool(hidden, pooling),
                atol=1e-4)
        assert encoder(tf.constant([], tf.string)).shape == (0, WIDTH)

    def test_tokens_equal_hugging_face(self, made):
        ours = encoder_of(made).tokenize(tf.constant(TEXTS)).to_list()
        for text, ids in zip(TEXTS, ours):
            assert ids == made.tokenizer(
                text, truncation=True, max_length=MOST)["input_ids"], text

    def test_special_tokens_in_a_text_are_text(self, made):
        encoder = encoder_of(made)
        special = made.tokenizer.all_special_tokens
        around = encoder.tokenize(tf.constant([""])).to_list()[0]
        for token in special:
            (ids,) = encoder.tokenize(tf.constant([f"a {token} b"])).to_list()
            unknown = made.tokenizer.unk_token_id
            own = made.tokenizer.convert_tokens_to_ids(token)
            assert own == unknown or ids.count(own) == around.count(own), (
                token)

    def test_gradients_equal_hugging_face(self, made):
        encoder = encoder_of(made, tuning="full")
        target = np.random.default_rng(1).normal(size=[len(TEXTS), WIDTH])
        target = target.astype(np.float32)

        def gradients(vectors, weights):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(vectors() * target)
            found = tape.gradient(loss, weights)
            return {short_name(w): tf.convert_to_tensor(g)
                    for w, g in zip(weights, found) if g is not None}

        ours = gradients(lambda: encoder(tf.constant(TEXTS), training=True),
                         encoder.trainable_weights)
        theirs = gradients(lambda: made.vectors(TEXTS),
                           made.model.trainable_weights)
        fixed = [n for n in theirs if any(f in n for f in made.kind.fixed)]
        assert len(ours) > 20 and set(ours) == set(theirs) - set(fixed)
        for name, gradient in ours.items():
            scale = max(1, np.abs(theirs[name]).max())
            np.testing.assert_allclose(
                gradient / scale, theirs[name] / scale, atol=1e-4, err_msg=name)

    def test_bitfit_trains_all_biases_of_the_layers(self, made):
        encoder = encoder_of(made, tuning="bitfit")
        with tf.GradientTape() as tape:
            vectors = encoder(tf.constant(TEXTS), training=True)
            loss = tf.reduce_sum(vectors ** 2)
        weights = encoder.trainable_weights
        found = {short_name(w) for w, gradient
                 in zip(weights, tape.gradient(loss, weights))
                 if gradient is not None}
        names = map(short_name, made.model.weights)
        assert found == {
            name for name in names if name.endswith(("bias:0", "beta:0"))
            and not any(part in name for part in (
                "embedding", "pooler", *made.kind.fixed))}

    @pytest.mark.parametrize("top_n", [1, 2])
    def test_top_n_moves_just_its_weights(self, made, top_n):
        if made.kind.model == "TFAlbertModel":
            with pytest.raises(ValueError, match="share their weights"):
                encoder_of(made, tuning="top_n", top_n=top_n)
            return
        encoder = encoder_of(made, tuning="top_n", top_n=top_n)
        expected = trained_names(made, top_n)
        weights = encoder.trainable_weights
        assert {short_name(w) for w in weights} == expected
        table = encoder.table(TEXTS)
        with tf.GradientTape() as tape:
            vectors = table(tf.range(len(TEXTS) + 1), training=True)
            loss = tf.reduce_sum(vectors ** 2)
        np.testing.assert_allclose(vectors[1:], encoder(TEXTS), atol=1e-4)
        before = {w.ref(): w.numpy() for w in encoder.weights}
        for weight, gradient in zip(weights, tape.gradient(loss, weights)):
            weight.assign_sub(0.1 * gradient)
        for weight in encoder.weights:
            # The gradient of a key's bias is zero: softmax ignores it.
            if not re.search(r"/(key|k|k_lin)/bias", weight.name):
                moved = not np.array_equal(weight, before[weight.ref()])
                assert moved == (short_name(weight) in expected), weight.name

    def test_saved_model_gives_the_same(self, made, tmp_path):
        encoder = encoder_of(made, tuning="full")
        for weight in encoder.trainable_weights:
            weight.assign_add(0.05 * tf.ones_like(weight))
        module = tf.Module()
        module.encoder = encoder.for_serving()

        @tf.function(input_signature=[module.encoder.spec])
        def embed(texts):
            return {"embedding": module.encoder(texts)}

        tf.saved_model.save(module, str(tmp_path / "saved"), signatures=embed)
        loaded = tf.saved_model.load(str(tmp_path / "saved"))
        served = loaded.signatures["serving_default"]
        for texts in (TEXTS, TEXTS[1:2], TEXTS[:1]):
            given = {"text": tf.constant(texts)}
            if not made.kind.in_graph:
                ids = encoder.tokenize(given["text"])
                given = {"token_ids": ids.to_tensor(-1)}
            np.testing.assert_allclose(
                served(**given)["embedding"], encoder(texts), atol=1e-4)

    def test_strings_in_a_graph(self, made):
        encoder = encoder_of(made, tuning="full")
        expected = encoder(tf.constant(TEXTS))
        if not made.kind.in_graph:
            with pytest.raises(ValueError, match="outside of a graph"):
                tf.function(encoder)(tf.constant(TEXTS))
            ids = encoder.tokenize(tf.constant(TEXTS))
            np.testing.assert_allclose(
                tf.function(encoder)(ids), expected, atol=1e-4)
        else:
            np.testing.assert_allclose(
                tf.function(encoder)(tf.constant(TEXTS)), expected, atol=1e-4)

    def test_bfloat16_and_dropout(self, made):
        exact = encoder_of(made)(TEXTS)
        near = encoder_of(made, precision="bfloat16")(TEXTS)
        assert 1e-5 < tf.norm(near - exact) / tf.norm(exact) < 5e-2
        encoder = encoder_of(made, tuning="full", dropout=0.5)
        np.testing.assert_allclose(encoder(TEXTS), exact, atol=1e-5)
        moved = encoder(TEXTS, training=True)
        assert np.abs(moved - exact).max() > 0.01
        assert np.abs(moved - encoder(TEXTS, training=True)).max() > 0.01

    def test_catalogue_and_cache(self, made):
        encoder = encoder_of(made)
        vectors = encoder.encode(TEXTS)
        np.testing.assert_allclose(vectors, made.vectors(TEXTS), atol=1e-4)
        again = TextEncoder.from_config(encoder.get_config())
        assert again.fingerprint == encoder.fingerprint
        np.testing.assert_allclose(again.encode(TEXTS), vectors, atol=1e-5)

    def test_graph_of_many_texts(self, made, monkeypatch):
        encoder = TextEncoder(made.folder, max_length=MOST)
        expected = encoder(tf.constant(TEXTS)).numpy()
        monkeypatch.setattr(encode_many, "_WORTH_TOKENS", 0)
        # Steps of 4 texts or fewer, and of all.
        for tokens in (MOST, 1000):
            found = encode_many.run(encoder, TEXTS, tokens, False)
            np.testing.assert_allclose(found, expected, atol=1e-4)

    @pytest.mark.parametrize("layout", ["tf", "torch head"])
    def test_other_layouts_of_weights(self, made, tmp_path, layout):
        folder = tmp_path / "other"
        shutil.copytree(made.folder, folder)
        if layout == "tf":
            made.model.save_pretrained(folder, safe_serialization=True)
        else:  # as saved from a model with a head
            write_torch_weights(
                folder, made.model, made.model.base_model_prefix + ".")
        encoder = TextEncoder(folder, max_length=MOST)
        assert encoder.fingerprint == encoder_of(made).fingerprint

    def test_tokenizer_json(self, made, tmp_path):
        if made.kind.in_graph:
            pytest.skip("read from other files")
        folder = tmp_path / "other"
        shutil.copytree(made.folder, folder)
        made.tokenizer(TEXTS, truncation=True, max_length=3)  # is saved with it
        made.tokenizer.save_pretrained(folder)
        encoder = TextEncoder(folder, max_length=MOST)
        special = " ".join(made.tokenizer.all_special_tokens)
        texts = tf.constant(TEXTS + [f"a {special} b"])
        assert encoder.tokenize(texts).to_list() == (
            encoder_of(made).tokenize(texts).to_list())
        (folder / "merges.txt").unlink()
        (folder / "tokenizer.json").write_text("{")
        with pytest.raises(ValueError, match="Fetch them again"):
            TextEncoder(folder, max_length=MOST)

    def test_fingerprint_knows_every_weight(self, made):
        encoder = encoder_of(made, tuning="full")
        for weight in encoder.trainable_weights:
            old = weight.numpy()
            weight.assign_add(tf.ones_like(weight))
            assert encoder.weights_fingerprint() != encoder.fingerprint
            weight.assign(old)
        assert encoder.weights_fingerprint() == encoder.fingerprint

    @pytest.fixture(scope="class")
    def served(self, made, shop, tmp_path_factory):
        encoder = encoder_of(made, tuning="lora", rank=2)
        before = encoder(tf.constant(TEXTS)).numpy()
        exported = Exported(
            shop, encoder, tmp_path_factory.mktemp("served"))
        server = Server(options_of(
            port=None, model_base_path=str(exported.folder),
            model_name="recommender"))
        server.start()
        yield exported, before, f"localhost:{server.grpc_port}"
        server.stop(0)

    def test_it_is_trained_and_its_export_gives_the_same(self, served, made):
        exported, before, _ = served
        query = exported.model.query_tower
        encoder = exported.model.candidate_tower.encoder
        vectors = encoder(tf.constant(TEXTS))
        assert np.abs(vectors - before).max() > 1e-5
        expected = tf.split(
            query.search(query.standardise(vectors)), 2, axis=1)[1]
        given = {"text": np.array(TEXTS, object)}
        if not made.kind.in_graph:
            ids = encoder.tokenize(tf.constant(TEXTS))
            given = {"token_ids": ids.to_tensor(-1).numpy()}
        found = exported.by_session("embed_queries", given)["embedding"]
        some = [n for n, text in enumerate(TEXTS) if text]
        np.testing.assert_allclose(
            found[some], expected.numpy()[some], atol=1e-4)

    def test_a_client_gets_the_same(self, served, made):
        exported, _, address = served
        manifest = read_manifest(exported.path)
        assert manifest["tokenizer"] == (
            "graph" if made.kind.in_graph else "client")
        query = exported.model.query_tower
        texts = [text for text in TEXTS if text]
        vectors = query.standardise(
            exported.model.candidate_tower.encoder(tf.constant(texts)))
        expected = tf.split(query.search(vectors), 2, axis=1)[1].numpy()
        candidates = exported.blocks([])[1]["retrieval"].numpy()[1:]
        best = np.argmax(expected @ candidates.T, axis=1)
        with Recommender(address, timeout=60,
                         tokenizer=exported.folder) as client:
            np.testing.assert_allclose(
                client.embed_queries(texts=texts).vectors, expected,
                atol=1e-4)
            assert [ids[0] for ids in client.search(texts).item_ids] == [
                str(i) for i in exported.pool.item_ids[best]]

    @pytest.fixture
    def broken(self, made, tmp_path):
        folder = tmp_path / "broken"
        shutil.copytree(made.folder, folder)
        return folder

    def test_truncated_weights(self, broken):
        path = broken / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ValueError, match="fetch it again"):
            TextEncoder(broken, max_length=MOST)

    def test_tokenizer_of_another_kind(self, broken):
        (broken / "tokenizer_config.json").write_text(
            '{"tokenizer_class": "T5Tokenizer"}')
        with pytest.raises(ValueError, match="T5Tokenizer"):
            TextEncoder(broken, max_length=MOST)

    def test_tokenizer_of_another_size(self, broken):
        path = broken / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "vocab_size": 12}))
        with pytest.raises(ValueError, match="vocab_size=12"):
            TextEncoder(broken, max_length=MOST)

    def test_tokenizer_is_missing(self, broken):
        for name in ("vocab.txt", "spiece.model", "vocab.json",
                     "merges.txt", "tokenizer.json"):
            (broken / name).unlink(missing_ok=True)
        with pytest.raises(ValueError, match="must come with"):
            TextEncoder(broken, max_length=MOST)

    def test_longer_than_the_positions(self, made):
        with pytest.raises(ValueError, match="whole number from 2 to"):
            TextEncoder(made.folder, max_length=10**6)
