"""TextEncoder and TextTable against Hugging Face's own model and tokenizer."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from transformers import BertTokenizerFast, TFBertModel

from tfrecal.text import encode_many
from tfrecal.text.encoder import TextEncoder
from tfrecal.text.layers import packing
from tfrecal.text.vector_cache import EncodingCache, text_key

TEXTS = [
    "title: the blue chair; price: 12.50",
    "",
    "and",
    "and",
    "Ünïcödé, ß, ½ and x² for 5 €",
    "wide １２, ΣΑΣ, İstanbul, 东京 tower",
    "👨‍👩‍👧 of the ☃️",
    "con\x07trol \x00 zero\u200bwidth\ttab\nline \u00a0 space",
    "word " * 300,
    "x" * 10000,
    "a" * 100 + " " + "b" * 101,
    "и" * 60 + " - ไทย" * 3,
]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "encodings"


@pytest.fixture(scope="module")
def frozen(tiny_bert_folder):
    return TextEncoder(tiny_bert_folder)


def short(folder, **options):
    """An encoder of few length buckets, quick to build."""
    return TextEncoder(folder, max_length=12, **options)


def reference(folder, texts, pooling="mean", max_length=64):
    """Vectors, and the model, of Hugging Face, padded as usual."""
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    batch = tokenizer(
        texts, padding=True, truncation=True, max_length=max_length,
        return_tensors="np",
    )
    model = TFBertModel.from_pretrained(
        folder, add_pooling_layer=False, use_safetensors=True
    )
    return padded_vectors(model, dict(batch), pooling), model, dict(batch)


def padded_vectors(model, batch, pooling="mean"):
    hidden = model(batch).last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    mask = tf.cast(batch["attention_mask"], tf.float32)[..., tf.newaxis]
    return tf.reduce_sum(hidden * mask, 1) / tf.reduce_sum(mask, 1)


def check_tokens(encoder, folder, texts):
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    ours = encoder.tokenize(tf.constant(texts)).to_list()
    for text, ids in zip(texts, ours):
        theirs = tokenizer(
            text, truncation=True, max_length=encoder.max_length
        )["input_ids"]
        assert ids == theirs, f"{text!r:.60}"


class TestTokens:
    def test_equal_hugging_face(self, frozen, tiny_bert_folder):
        check_tokens(frozen, tiny_bert_folder, TEXTS)

    def test_are_cut_with_both_ends(self, frozen):
        ids = frozen.tokenize(tf.constant(["a " * 100, ""])).to_list()
        assert len(ids[0]) == 64
        assert ids[1] == [ids[0][0], ids[0][-1]]

    def test_special_token_in_a_text_is_text(self, frozen):
        (ids,) = frozen.tokenize(tf.constant(["a [SEP] b"])).to_list()
        assert ids.count(ids[-1]) == 1

    @pytest.mark.large
    def test_equal_hugging_face_on_real_texts(self, minilm_folder, ml100k):
        encoder = TextEncoder(minilm_folder)
        titles = [str(title) for title in ml100k.items.iloc[:, 0]]
        assert len(titles) > 1000
        check_tokens(encoder, minilm_folder, titles + TEXTS)
        # Every character of Latin, Greek, Cyrillic, punctuation and symbols.
        letters = [chr(c) for c in range(1, 0x500)]
        symbols = [chr(c) for c in range(0x2000, 0x2C00)]
        mixed = [f"a{c}b {c}" for c in letters + symbols if c != "\u2065"]
        check_tokens(encoder, minilm_folder, mixed)


class TestVectors:
    @pytest.mark.parametrize("pooling", ["mean", "cls"])
    def test_equal_hugging_face(self, tiny_bert_folder, pooling):
        encoder = TextEncoder(tiny_bert_folder, pooling=pooling)
        expected, _, _ = reference(tiny_bert_folder, TEXTS, pooling)
        np.testing.assert_allclose(
            encoder(tf.constant(TEXTS)), expected, atol=1e-5
        )

    @pytest.mark.large
    def test_equal_hugging_face_on_minilm(self, minilm_folder, ml100k):
        titles = [str(title) for title in ml100k.items.iloc[:, 0]]
        texts = titles[:200] + TEXTS + [" ".join(titles[:50])]
        encoder = TextEncoder("minilm")
        expected, _, _ = reference(minilm_folder, texts)
        for vectors in (encoder(tf.constant(texts)), encoder.encode(texts)):
            np.testing.assert_allclose(vectors, expected, atol=1e-4)

    def test_do_not_depend_on_the_rest_of_the_batch(self, frozen):
        texts = ["a " * n for n in range(1, 63)]
        together = frozen(tf.constant(texts)).numpy()
        for n in (0, 6, 7, 30, 61):
            alone = frozen(tf.constant(texts[n: n + 1])).numpy()
            np.testing.assert_allclose(together[n], alone[0], atol=1e-5)

    def test_shapes(self, frozen):
        assert frozen(tf.constant([], tf.string)).shape == (0, 32)
        assert frozen(tf.constant("a")).shape == (32,)
        assert frozen(tf.constant([["a"], ["b"]])).shape == (2, 1, 32)
        tokens = frozen.tokenize(tf.constant(["a", "b"]))
        np.testing.assert_allclose(frozen(tokens), frozen(["a", "b"]))

    def test_distinct_texts_are_encoded_once(self, frozen, monkeypatch):
        tokens = []

        def counted(starts, lengths, *rest, real=packing.pack):
            tokens.append(int(tf.reduce_sum(lengths)))
            return real(starts, lengths, *rest)

        monkeypatch.setattr(packing, "pack", counted)
        once = frozen(tf.constant(["the", "chair"]))
        often = frozen(tf.constant(["the", "chair", "the"] * 20))
        assert tokens[0] == tokens[1] > 0
        np.testing.assert_array_equal(
            often.numpy(), np.tile(once.numpy()[[0, 1, 0]], [20, 1])
        )

    def test_dropout_acts_in_training_on_trained_layers(
        self, tiny_bert_folder, frozen
    ):
        encoder = TextEncoder(
            tiny_bert_folder, tuning="top_n", top_n=1, dropout=0.5
        )
        text = tf.constant(["the blue chair"])
        still, moved = encoder(text), encoder(text, training=True)
        np.testing.assert_allclose(still, frozen(text), atol=1e-6)
        assert np.abs(moved - still).max() > 0.01
        assert np.abs(moved - encoder(text, training=True)).max() > 0.01


TUNINGS = [("frozen", 1), ("top_n", 1), ("top_n", 2), ("full", 1)]


def trained_names(encoder):
    """Weights that ought to be trained, by their names."""
    kept = []
    for weight in encoder.weights:
        place = weight.name.partition("/bert/")[2]
        layer = place.partition("layer_._")[2][:1]
        top = layer and int(layer) >= 2 - encoder.top_n
        if encoder.tuning == "full" or encoder.tuning == "top_n" and top:
            kept.append(weight.ref())
    return kept


class TestTuning:
    @pytest.mark.parametrize("tuning, top_n", TUNINGS)
    def test_a_step_moves_just_what_is_tuned(
        self, tiny_bert_folder, tuning, top_n
    ):
        encoder = short(tiny_bert_folder, tuning=tuning, top_n=top_n)
        head = tf_keras.layers.Dense(1)
        expected = trained_names(encoder)
        assert [w.ref() for w in encoder.trainable_weights] == expected
        before = [w.numpy() for w in encoder.weights]
        with tf.GradientTape() as tape:
            vectors = encoder(tf.constant(TEXTS), training=True)
            loss = tf.reduce_sum(head(vectors) ** 2)
        weights = encoder.trainable_weights + head.trainable_weights
        gradients = tape.gradient(loss, weights)
        tf_keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, weights))
        for weight, old in zip(encoder.weights, before):
            moved = not np.array_equal(weight.numpy(), old)
            # The gradient of a key's bias is zero: softmax ignores it.
            if "key/bias" not in weight.name:
                assert moved == (weight.ref() in expected), weight.name

    def test_thawing_a_parent_does_not_widen_it(self, tiny_bert_folder):
        encoder = short(tiny_bert_folder, tuning="top_n", top_n=1)
        model = tf_keras.Sequential([encoder, tf_keras.layers.Dense(1)])
        count = len(encoder.trainable_weights)
        model.trainable = False
        assert encoder.trainable_weights == []
        model.trainable = True
        assert len(encoder.trainable_weights) == count == 16
        assert len(encoder.weights) == 16 * 2 + 5

    def test_gradients_equal_hugging_face(self, tiny_bert_folder):
        texts = TEXTS + ["the chair of a", "a"]
        encoder = short(tiny_bert_folder, tuning="full")
        target = np.random.default_rng(0).normal(size=[len(texts), 32])
        _, model, batch = reference(tiny_bert_folder, texts, max_length=12)

        def gradients(vectors, weights):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(vectors() * target.astype("f4"))
            return [
                tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)
            ]

        ours = gradients(
            lambda: encoder(tf.constant(texts), training=True),
            encoder.trainable_weights,
        )
        theirs = gradients(
            lambda: padded_vectors(model, batch), model.trainable_weights
        )
        assert len(ours) == len(theirs) == 37
        for a, b in zip(ours, theirs):
            np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-3)

    def test_bfloat16_is_near_float32(self, tiny_bert_folder):
        results = []
        for precision in ("float32", "bfloat16"):
            encoder = short(
                tiny_bert_folder, tuning="full", precision=precision
            )
            with tf.GradientTape() as tape:
                vectors = encoder(tf.constant(TEXTS))
            found = tape.gradient(vectors, encoder.trainable_weights)
            found = [tf.reshape(tf.convert_to_tensor(g), [-1]) for g in found]
            results.append([vectors, tf.concat(found, 0)])
        for exact, near in zip(*results):
            assert exact.dtype == near.dtype == tf.float32
            error = tf.norm(near - exact) / tf.norm(exact)
            # Rounded to 8 bits, and not the float32 numbers again.
            assert 1e-5 < error < 2e-2

    def test_word_gradient_is_sparse(self, tiny_bert_folder):
        encoder = short(tiny_bert_folder, tuning="full")
        words = encoder.base.embeddings.weight
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(encoder(tf.constant(["a chair"])))
        assert isinstance(tape.gradient(loss, words), tf.IndexedSlices)


class TestTable:
    @pytest.mark.parametrize("tuning, top_n", TUNINGS)
    def test_follows_the_encoder(self, tiny_bert_folder, tuning, top_n):
        encoder = short(tiny_bert_folder, tuning=tuning, top_n=top_n)
        table = encoder.table(TEXTS)
        rows = tf.constant([3, 0, 1, 12, 9, 3, 2, 4, 0])
        head = tf.constant(np.linspace(-1, 1, 32), tf.float32)

        @tf.function
        def gradient(rows):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(table(rows, training=True) * head)
            return tape.gradient(loss, encoder.trainable_weights)

        for step in range(2):
            vectors = table(rows).numpy()
            expected = encoder(tf.constant(TEXTS)).numpy()
            known = rows.numpy() > 0
            np.testing.assert_allclose(
                vectors[known], expected[rows.numpy()[known] - 1], atol=1e-5
            )
            assert not vectors[~known].any()
            if step == 0:
                np.testing.assert_allclose(
                    table.initial[1:], expected, atol=1e-5
                )
                assert table.initial.shape == (len(TEXTS) + 1, 32)
            for g, w in zip(gradient(rows), encoder.trainable_weights):
                w.assign_sub(0.01 * tf.convert_to_tensor(g))

    @pytest.mark.parametrize("tuning", ["top_n", "full"])
    def test_unknown_only_and_empty_batches(self, tiny_bert_folder, tuning):
        encoder = short(tiny_bert_folder, tuning=tuning)
        table = encoder.table(["a", "the chair"])
        for rows in ([0, 0], []):
            with tf.GradientTape() as tape:
                vectors = table(tf.constant(rows, tf.int32), training=True)
                loss = tf.reduce_sum(vectors)
            assert vectors.shape == (len(rows), 32)
            assert not vectors.numpy().any()
            for gradient in tape.gradient(loss, encoder.trainable_weights):
                assert not np.any(tf.convert_to_tensor(gradient))

    @pytest.mark.parametrize("tuning", ["frozen", "top_n", "full"])
    def test_traces_once(self, tiny_bert_folder, tuning):
        table = short(tiny_bert_folder, tuning=tuning).table(TEXTS)
        step = tf.function(
            table.call, input_signature=[tf.TensorSpec([None], tf.int32)]
        )
        for rows in ([1], [2, 9, 9], [0], []):
            step(tf.constant(rows, tf.int32))
        assert step.experimental_get_tracing_count() == 1

    @pytest.mark.parametrize("tuning", ["frozen", "top_n", "full"])
    def test_adds_nothing_to_a_checkpoint(
        self, tiny_bert_folder, tuning, tmp_path
    ):
        encoder = short(tiny_bert_folder, tuning=tuning)
        table = encoder.table([f"the chair {n}" for n in range(500)])
        model = tf_keras.Sequential([table, tf_keras.layers.Dense(1)])
        model(tf.constant([1, 2]))
        model.save_weights(str(tmp_path / "weights"))
        stored = tf.train.list_variables(str(tmp_path / "weights"))
        elements = sum(int(np.prod(shape)) for _, shape in stored[1:])
        own = sum(int(np.prod(w.shape)) for w in encoder.weights)
        assert elements < own + 100

    @pytest.mark.parametrize("tuning", ["frozen", "full"])
    def test_unknown_row_numbers_are_refused(self, tiny_bert_folder, tuning):
        table = short(tiny_bert_folder, tuning=tuning).table(["a"])
        for row in (2, -1):
            with pytest.raises(tf.errors.InvalidArgumentError):
                table(tf.constant([row]))


class TestEncodeAndItsCache:
    texts = [f"the chair {n}" for n in range(40)]

    def test_keeps_order_and_duplicates(self, frozen, own_cache):
        texts = ["a " * 30, "the", "a " * 30, "", "chair"]
        vectors = frozen.encode(texts, batch_size=1)
        np.testing.assert_allclose(vectors, frozen(texts), atol=1e-5)
        assert frozen.encode([]).shape == (0, 32)

    def test_only_new_texts_are_run(self, frozen, own_cache, monkeypatch):
        first = frozen.encode(self.texts)
        run, seen = encode_many.run, []

        def spy(encoder, texts, *rest):
            seen.extend(texts)
            return run(encoder, texts, *rest)

        monkeypatch.setattr(encode_many, "run", spy)
        again = frozen.encode(self.texts[::-1] + ["new one"])
        assert seen == ["new one"]
        np.testing.assert_array_equal(again[:-1], first[::-1])

    @pytest.mark.parametrize("damage", ["cut", "altered", "empty"])
    def test_corrupt_file_is_rewritten(self, frozen, own_cache, damage):
        first = frozen.encode(self.texts)
        (path,) = own_cache.glob("*/*.npy")
        good = path.read_bytes()
        bad = {
            "cut": good[:-100],
            "altered": good[:-4] + b"\0\0\0\0",
            "empty": b"",
        }[damage]
        path.write_bytes(bad)
        np.testing.assert_array_equal(frozen.encode(self.texts), first)
        assert path.read_bytes() == good

    def test_trained_weights_neither_read_nor_write(
        self, tiny_bert_folder, own_cache
    ):
        encoder = short(tiny_bert_folder, tuning="top_n")
        before = encoder.encode(self.texts)
        files = sorted(own_cache.glob("*/*"))
        weight = encoder.trainable_weights[0]
        weight.assign(-weight)
        after = encoder.encode(self.texts)
        np.testing.assert_allclose(after, encoder(self.texts), atol=1e-5)
        assert np.abs(after - before).max() > 1e-3
        assert sorted(own_cache.glob("*/*")) == files and len(files) == 1

    def test_other_options_do_not_meet(self, tiny_bert_folder, own_cache):
        made = [
            TextEncoder(tiny_bert_folder, **options).encode(self.texts)
            for options in ({}, {"pooling": "cls"}, {"max_length": 3})
        ]
        assert len(list(own_cache.iterdir())) == 3
        assert np.abs(made[0] - made[1]).max() > 1e-3
        assert np.abs(made[0] - made[2]).max() > 1e-3

    def test_a_cache_that_cannot_be_written_is_done_without(
        self, frozen, own_cache
    ):
        own_cache.parent.mkdir()
        own_cache.write_text("a file where the folder should be")
        assert frozen.encode(self.texts).shape == (40, 32)

    def test_many_files_are_merged(self, tmp_path):
        cache = EncodingCache(tmp_path / "cache", 2)
        for n in range(20):
            keys = [text_key(f"{n} {m}") for m in range(16)]
            cache.add(keys, np.full([16, 2], n, np.float32))
        assert len(list(cache.folder.iterdir())) < 8
        found = cache.read([text_key(f"{n} 3") for n in range(20)])
        assert {k: v[0] for k, v in found.items()} == {
            text_key(f"{n} 3"): n for n in range(20)
        }

    def test_a_file_that_another_process_merged_away(
        self, tmp_path, monkeypatch
    ):
        cache = EncodingCache(tmp_path, 2)
        gone = tmp_path / "gone.npy"
        monkeypatch.setattr(cache, "_files", lambda: [gone])
        assert cache.read([text_key("a")]) == {}


class TestKeras:
    def test_config_round_trip(self, tiny_bert_folder):
        encoder = TextEncoder(
            str(tiny_bert_folder), pooling="cls", tuning="top_n", top_n=2,
            max_length=9, dropout=0.1, precision="bfloat16", name="texts",
        )
        table = encoder.table(["a", "the chair"])
        config = json.loads(
            json.dumps(tf_keras.saving.serialize_keras_object(table))
        )
        again = tf_keras.saving.deserialize_keras_object(config)
        assert again.get_config() == table.get_config()
        rows = tf.constant([0, 2, 1])
        np.testing.assert_allclose(again(rows), table(rows), atol=1e-6)

    @pytest.mark.parametrize("options", [
        {}, {"pooling": "cls"}, {"precision": "bfloat16"},
    ])
    def test_for_serving_has_the_trained_weights(
        self, tiny_bert_folder, options
    ):
        encoder = short(tiny_bert_folder, tuning="full", **options)
        for weight in encoder.trainable_weights:
            weight.assign_add(0.05 * tf.ones_like(weight))
        served = encoder.for_serving()
        texts = tf.constant(TEXTS)
        np.testing.assert_allclose(
            served(texts), encoder(texts),
            atol=2e-2 if "precision" in options else 1e-5,
        )
        assert served(texts[:0]).shape == (0, 32)
        assert not served.trainable_variables[5:]

    def test_export_takes_strings(self, tiny_bert_folder, tmp_path):
        encoder = short(tiny_bert_folder, tuning="top_n")
        module = tf.Module()
        module.encoder, module.table = encoder, encoder.table(TEXTS)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def embed(text):
            return {"embedding": encoder(text)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)])
        def rows(row):
            return {"embedding": module.table(row)}

        module.embed, module.rows = embed, rows
        tf.saved_model.save(module, str(tmp_path), signatures={
            "serving_default": embed, "rows": rows,
        })
        loaded = tf.saved_model.load(str(tmp_path))
        served = loaded.signatures["serving_default"](tf.constant(TEXTS))
        np.testing.assert_allclose(
            served["embedding"], encoder(TEXTS), atol=1e-5
        )
        served = loaded.signatures["rows"](tf.constant([0, 3]))
        np.testing.assert_allclose(
            served["embedding"], module.table(tf.constant([0, 3])), atol=1e-5
        )


class TestBadInput:
    @pytest.fixture
    def broken(self, tiny_bert_folder, tmp_path):
        folder = tmp_path / "broken"
        shutil.copytree(tiny_bert_folder, folder)
        return folder

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"pooling": "max"}, "one of mean, cls, last"),
            ({"tuning": "prefix"}, "`tuning` must be one of"),
            ({"tuning": "top_n", "top_n": 0}, "from 1 to 2"),
            ({"tuning": "top_n", "top_n": 3}, "from 1 to 2"),
            ({"precision": "float16"}, "`precision` must be one of"),
            ({"max_length": 1}, "from 2 to 64"),
            ({"max_length": 65}, "from 2 to 64"),
            ({"dropout": 1.0}, "`dropout` must lie in"),
            ({"dropout": -0.1}, "`dropout` must lie in"),
        ],
    )
    def test_options(self, tiny_bert_folder, options, message):
        with pytest.raises(ValueError, match=message):
            TextEncoder(tiny_bert_folder, **options)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(ValueError, match="no folder"):
            TextEncoder(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        "name, value",
        [
            ("position_embedding_type", "relative_key"),
            ("is_decoder", True),
        ],
    )
    def test_another_kind_of_bert(self, broken, name, value):
        edit(broken / "config.json", name, value)
        with pytest.raises(ValueError, match=f"must have {name}="):
            TextEncoder(broken)

    @pytest.mark.parametrize("kind", ["t5", None])
    def test_another_architecture(self, broken, kind):
        edit(broken / "config.json", "model_type", kind)
        with pytest.raises(ValueError, match="must be one of bert, "):
            TextEncoder(broken)

    def test_no_readable_config(self, broken):
        (broken / "config.json").write_text("{")
        with pytest.raises(ValueError, match="readable `config.json`"):
            TextEncoder(broken)

    def test_truncated_weights(self, broken):
        path = broken / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(ValueError, match="fetch it again"):
            TextEncoder(broken)

    def test_no_weights(self, broken):
        (broken / "model.safetensors").unlink()
        with pytest.raises(ValueError, match="must hold one of"):
            TextEncoder(broken)

    @pytest.mark.parametrize(
        "name, value", [("num_hidden_layers", 3), ("intermediate_size", 48)]
    )
    def test_weights_of_another_size(self, broken, name, value):
        edit(broken / "config.json", name, value)
        with pytest.raises(ValueError, match="missing|must fit config.json"):
            TextEncoder(broken)

    def test_no_vocabulary(self, broken):
        (broken / "vocab.txt").unlink()
        with pytest.raises(ValueError, match="come with its `vocab.txt`"):
            TextEncoder(broken)

    def test_vocabulary_cut_off(self, broken):
        path = broken / "vocab.txt"
        path.write_text(path.read_text()[:100])
        with pytest.raises(ValueError, match="must have `vocab_size` lines"):
            TextEncoder(broken)

    def test_vocabulary_without_special_tokens(self, broken):
        path = broken / "vocab.txt"
        path.write_text(path.read_text().replace("[CLS]", "[XXX]"))
        with pytest.raises(ValueError, match="without \\[CLS\\]"):
            TextEncoder(broken)

    def test_another_tokenizer(self, broken):
        edit(
            broken / "tokenizer_config.json", "tokenizer_class",
            "BertJapaneseTokenizer",
        )
        with pytest.raises(ValueError, match="must be a BertTokenizer"):
            TextEncoder(broken)

    @pytest.mark.parametrize("texts", ["one", ["a", None], ["a", 1.5], [b"a"]])
    def test_texts(self, frozen, texts):
        with pytest.raises(TypeError, match="`texts` must"):
            frozen.encode(texts)
        with pytest.raises(TypeError, match="`texts` must"):
            frozen.table(texts)


def edit(path, name, value):
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
