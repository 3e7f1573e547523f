"""Folders of sentence-transformers: what they ask for is done or refused.

The reference is Hugging Face's tokenizer and TensorFlow class, one text at a
time, and NumPy for what sentence-transformers documents around them.
"""
from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from encoder_contract import WIDTH, write
from encoder_kinds import KINDS
from exports import Exported
from safetensors.numpy import save_file

from tfrecal.text import encode_many
from tfrecal.text.distill import distill, student_of
from tfrecal.text.encoder import TextEncoder
from tfrecal.text.lengths import longest_text, token_counts
from tfrecal.text.sentence_folder import read_sentence_folder
from tfrecal.text.simcse import warm_up

TEXTS = ["the Blue CHAIR of wood", "", "and the tower, of the chair",
         "  ÜNÏCÖDE ΣΑΣ İstanbul \u3000", "a b c d e f g h i j k l m n"]
NAME = "sentence_transformers.models."
ACTIVATIONS = {"Tanh": np.tanh, "Identity": lambda x: x,
               "ReLU": lambda x: np.maximum(x, 0)}


@pytest.fixture(scope="module", params=["bert"])
def made(request, tmp_path_factory):
    return write(tmp_path_factory.mktemp("made"), KINDS[request.param])


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str)
                    else json.dumps(content), encoding="utf-8")


def folder_of(made, tmp_path, after=(), *, inside="", pooling="1_Pooling",
              mode="mean_tokens", sentence=None, prompts=None):
    """A folder as `SentenceTransformer.save` lays it out."""
    folder = tmp_path / "sentences"
    shutil.copytree(made.folder, folder / inside)
    modules = [("Transformer", inside), ("Pooling", pooling)]
    put(folder / pooling / "config.json", {
        "word_embedding_dimension": WIDTH, **{
            f"pooling_mode_{name}": name == mode for name in (
                "cls_token", "mean_tokens", "max_tokens",
                "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")},
        "include_prompt": True})
    for number, step in enumerate(after, 2):
        if step == "Normalize":
            modules.append(("Normalize", f"{number}_Normalize"))
            continue
        weight, bias, activation = step
        place = f"{number}_Dense"
        modules.append(("Dense", place))
        put(folder / place / "config.json", {
            "in_features": weight.shape[1], "out_features": weight.shape[0],
            "bias": bias is not None, "activation_function":
            f"torch.nn.modules.activation.{activation}"
            if activation != "Identity" else "torch.nn.modules.linear.Identity"
        })
        weights = {"linear.weight": weight}
        if bias is not None:
            weights["linear.bias"] = bias
        save_file(weights, folder / place / "model.safetensors")
    put(folder / "modules.json", [
        {"idx": n, "name": str(n), "path": path, "type": NAME + kind}
        for n, (kind, path) in enumerate(modules)])
    if sentence:
        put(folder / inside / "sentence_bert_config.json", sentence)
    if prompts:
        put(folder / "config_sentence_transformers.json", prompts)
    return folder


def expected(made, after=(), texts=TEXTS, *, mode="mean_tokens", lower=False,
             most=24, prompt=""):
    """The vectors of sentence-transformers, by its documentation."""
    found = []
    for text in texts:
        text = (prompt + text).strip()
        batch = made.tokenizer(
            text.lower() if lower else text, truncation=True, max_length=most,
            return_tensors="np")
        rows = made.model(dict(batch)).last_hidden_state[0].numpy()
        vector = {"mean_tokens": rows.mean(0), "cls_token": rows[0],
                  "lasttoken": rows[-1]}[mode]
        for step in after:
            if step == "Normalize":
                vector = vector / max(np.linalg.norm(vector), 1e-12)
            else:
                weight, bias, activation = step
                vector = weight @ vector + (0 if bias is None else bias)
                vector = ACTIVATIONS[activation](vector)
        found.append(vector)
    return np.stack(found)


def check(folder, wanted, monkeypatch, texts=TEXTS, **options):
    """Each way to vectors gives what is wanted."""
    encoder = TextEncoder(str(folder), max_length=24, **options)
    assert encoder.dim == wanted.shape[1]

    def same(found):
        np.testing.assert_allclose(found, wanted, atol=2e-5)

    given = tf.constant(texts)
    same(encoder(given))
    same(encoder.encode(texts))
    again = TextEncoder.from_config(encoder.get_config())
    assert again.fingerprint == encoder.fingerprint
    same(again.encode(texts))
    monkeypatch.setattr(encode_many, "_WORTH_TOKENS", 0)
    same(encode_many.run(encoder, texts, 1000, False))
    served = encoder.for_serving()
    same(served(given if served.spec.dtype == tf.string
                else encoder.tokenize(given).to_tensor(-1)))
    rows = tf.range(1, len(texts) + 1)
    for tuning in ("frozen", "top_n", "full"):
        tuned = TextEncoder(
            str(folder), max_length=24, tuning=tuning, **options)
        same(tuned.table(texts)(rows))
    np.testing.assert_array_equal(
        token_counts(texts, str(folder)).clip(
            max=longest_text(str(folder), 24)),
        encoder.tokenize(given).row_lengths())
    return encoder


def dense(inputs, outputs, activation="Tanh", bias=True):
    rng = np.random.default_rng(outputs)
    return (rng.normal(0, 0.2, [outputs, inputs]).astype(np.float32),
            rng.normal(size=outputs).astype(np.float32) if bias else None,
            activation)


@pytest.mark.parametrize("after", [
    [], ["Normalize"], [dense(WIDTH, 7)],
    [dense(WIDTH, 7, "Identity", bias=False), "Normalize"],
    ["Normalize", dense(WIDTH, 40, "ReLU"), dense(40, 5)]])
def test_modules_after_pooling(made, after, tmp_path, monkeypatch):
    folder = folder_of(made, tmp_path, after)
    encoder = check(folder, expected(made, after), monkeypatch)
    plain = TextEncoder(str(made.folder), max_length=24)
    assert (encoder.fingerprint == plain.fingerprint) == (not after)
    weights = TextEncoder(
        str(folder), max_length=24, tuning="full").trainable_weights
    assert len(weights) == len(TextEncoder(
        str(made.folder), max_length=24, tuning="full").trainable_weights)


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "lasttoken"])
def test_pooling_and_transformer_in_other_folders(
        made, mode, tmp_path, monkeypatch):
    folder = folder_of(made, tmp_path, ["Normalize"], inside="0_Transformer",
                       pooling="pool/of mine", mode=mode)
    put(folder / "1_Pooling" / "config.json",
        {"pooling_mode_max_tokens": True})
    check(folder, expected(made, ["Normalize"], mode=mode), monkeypatch)


def test_the_argument_stands_over_the_pooling(made, tmp_path, monkeypatch):
    folder = folder_of(made, tmp_path, ["Normalize"], mode="max_tokens")
    with pytest.raises(ValueError, match="pooling_mode_max_tokens"):
        TextEncoder(str(folder))
    check(folder, expected(made, ["Normalize"], mode="cls_token"),
          monkeypatch, pooling="cls")


@pytest.mark.parametrize("most", [None, 5, 512])
def test_length_of_texts(made, most, tmp_path, monkeypatch):
    folder = folder_of(made, tmp_path, sentence={"max_seq_length": most})
    encoder = check(
        folder, expected(made, most=min(most or 24, 24)), monkeypatch)
    assert encoder.max_length == min(most or 24, 24)


@pytest.mark.parametrize("prompt", ["query: ", "the  ", ""])
def test_the_default_prompt(made, prompt, tmp_path, monkeypatch):
    folder = folder_of(made, tmp_path, prompts={
        "prompts": {"q": prompt, "other": "no"}, "default_prompt_name": "q",
        "similarity_fn_name": "cosine"})
    encoder = check(folder, expected(made, prompt=prompt), monkeypatch)
    plain = TextEncoder(str(made.folder), max_length=24)
    assert (encoder.fingerprint == plain.fingerprint) == (not prompt)


def test_prompts_that_nobody_asks_for(made, tmp_path, monkeypatch):
    folder = folder_of(made, tmp_path, prompts={
        "prompts": {"q": "query: "}, "default_prompt_name": None})
    check(folder, expected(made), monkeypatch)


@pytest.fixture(scope="module")
def cased(tmp_path_factory):
    """A BERT whose tokenizer keeps capital letters."""
    folder = tmp_path_factory.mktemp("cased")
    made = write(folder, KINDS["bert"])
    put(folder / "tokenizer_config.json", {
        "tokenizer_class": "BertTokenizer", "do_lower_case": False})
    return made._replace(
        tokenizer=type(made.tokenizer).from_pretrained(str(folder)))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("inside", ["", "0_BERT"])
def test_lower_case(cased, lower, inside, tmp_path, monkeypatch):
    folder = folder_of(cased, tmp_path, inside=inside, sentence={
        "max_seq_length": 20, "do_lower_case": lower})
    wanted = expected(cased, lower=lower, most=20)
    check(folder, wanted, monkeypatch)
    other = expected(cased, lower=not lower, most=20)
    assert np.abs(wanted - other).max() > 1e-3


def test_spaces_around_texts_of_roberta(tmp_path, monkeypatch):
    made = write(tmp_path, KINDS["roberta"])
    texts = [" the chair ", "the chair", "\u3000a"]
    folder = folder_of(made, tmp_path / "more", ["Normalize"])
    encoder = check(
        folder, expected(made, ["Normalize"], texts), monkeypatch, texts)
    assert encoder.tokenizer_facts()["tokenizer_strips"] is True
    for name, content in (
            ("sentence_bert_config.json", {"do_lower_case": True}),
            ("config_sentence_transformers.json",
             {"prompts": {"a": "b"}, "default_prompt_name": "a"})):
        put(folder / name, content)
        refused(folder, "byte-level BPE")
        (folder / name).unlink()


def test_files_without_a_list_of_modules(cased, tmp_path, monkeypatch):
    """A folder that was copied in part asks for the same."""
    folder = folder_of(cased, tmp_path, mode="cls_token", sentence={
        "max_seq_length": 9, "do_lower_case": True}, prompts={
            "prompts": {"q": "the "}, "default_prompt_name": "q"})
    (folder / "modules.json").unlink()
    check(folder, expected(cased, mode="cls_token", lower=True, most=9,
                           prompt="the "), monkeypatch)


def refused(folder, *parts):
    """One line that names the file, what arrived, and a cure."""
    with pytest.raises(ValueError) as found:
        TextEncoder(str(folder), max_length=24)
    text = str(found.value)
    assert "\n" not in text and str(folder) in text and "Received: " in text
    for part in parts:
        assert part in text, text
    with pytest.raises(ValueError):
        read_sentence_folder(folder)
        TextEncoder(str(folder), max_length=24)


def module(kind, path, n):
    return {"idx": n, "name": str(n), "path": path, "type": kind}


T, P, N = (NAME + kind for kind in ("Transformer", "Pooling", "Normalize"))


@pytest.mark.parametrize("modules, part", [
    ("[", "modules.json"), ("{}", "list"), ("[]", "none"), ('"a"', "list"),
    ("null", "list"), ("[1]", "list"), ("\xff", "modules.json"),
    ("[" * 100_000, "modules.json"), ([module(T, "", 0)], "Transformer"),
    ([module(P, "1_Pooling", 0)], "Pooling"),
    ([module(P, "1_Pooling", 0), module(T, "", 1)], "Pooling Transformer"),
    ([module(T, "", 0), module(N, "n", 1), module(P, "1_Pooling", 2)],
     "Transformer Normalize Pooling"),
    ([module(T, "", 1), module(P, "1_Pooling", 0)], "idx=[1, 0]"),
    ([module(T, "", 0), module(P, "1_Pooling", 1),
      module(P, "1_Pooling", 2)], "Pooling Pooling"),
    ([module(T, "", 0), module(P, "../1_Pooling", 1)], "../1_Pooling"),
    ([module(T, "", 0), module(P, "a/../../b", 1)], "a/../../b"),
    ([module(T, "/etc", 0), module(P, "1_Pooling", 1)], "/etc"),
    ([module(T, "..\\a", 0), module(P, "1_Pooling", 1)], "path="),
    ([module(T, "C:\\a", 0), module(P, "1_Pooling", 1)], "path="),
    ([module(T, 5, 0), module(P, "1_Pooling", 1)], "path=5"),
    ([module(T, None, 0), module(P, "1_Pooling", 1)], "path=None"),
    ([module(T, "", 0), module(P, "nowhere", 1)], "no such file"),
    ([module(5, "", 0), module(P, "1_Pooling", 1)], "type=5"),
    ([module(NAME + "CLIPModel", "", 0)], "CLIPModel"),
    ([module("my_code.Transformer", "", 0), module(P, "1_Pooling", 1)],
     "my_code.Transformer"),
    *(([module(T, "", 0), module(P, "1_Pooling", 1),
        module(NAME + kind, "2", 2)], kind) for kind in (
            "LayerNorm", "LSTM", "CNN", "WeightedLayerPooling", "WKPooling",
            "Dropout", "nothing")),
])
def test_lists_of_modules_that_are_refused(made, modules, part, tmp_path):
    folder = folder_of(made, tmp_path)
    put(folder / "modules.json", modules)
    if modules == "\xff":
        (folder / "modules.json").write_bytes(b"\xff\xfe")
    refused(folder, part)


@pytest.mark.parametrize("name, content, part", [
    ("sentence_bert_config.json", "{", "sentence_bert_config.json"),
    ("sentence_bert_config.json", "[]", "JSON object"),
    ("sentence_bert_config.json", {"do_lower_case": "yes"}, "'yes'"),
    ("sentence_bert_config.json", {"max_seq_length": "64"}, "'64'"),
    ("sentence_bert_config.json", {"max_seq_length": 1}, "max_seq_length=1"),
    ("sentence_bert_config.json", {"max_seq_length": True}, "True"),
    ("sentence_bert_config.json",
     {"model_args": {"add_pooling_layer": False, "is_decoder": True}},
     "is_decoder"),
    ("config_sentence_transformers.json", "[]", "JSON object"),
    ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "q"),
    ("config_sentence_transformers.json",
     {"default_prompt_name": "q", "prompts": {"q": 5}}, "q"),
    ("config_sentence_transformers.json", {"prompts": "q"}, "prompts"),
    ("config_sentence_transformers.json", {"default_prompt_name": 5}, "5"),
    ("1_Pooling/config.json", "[]", "JSON object"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": 1}, "=1"),
    # As sentence-transformers reads it: the mean is there unless it is off.
    ("1_Pooling/config.json", {"pooling_mode_cls_token": True},
     "mean_tokens, pooling_mode_cls_token"),
    *(("1_Pooling/config.json", {"pooling_mode_mean_tokens": False, f:
                                 True}, f) for f in (
        "pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens")),
    ("1_Pooling/config.json", {"pooling_mode": "max"}, "max"),
    ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "none"),
])
def test_options_that_are_refused(made, name, content, part, tmp_path):
    folder = folder_of(made, tmp_path)
    put(folder / name, content)
    refused(folder, part)


def test_a_prompt_that_the_pooling_leaves_out(made, tmp_path):
    folder = folder_of(made, tmp_path, prompts={
        "prompts": {"q": "query: "}, "default_prompt_name": "q"})
    put(folder / "1_Pooling" / "config.json", {"include_prompt": False})
    refused(folder, "include_prompt")


@pytest.mark.parametrize("change, part", [
    ({"in_features": 7}, "in_features=7"), ({"in_features": 0}, "sizes"),
    ({"out_features": 8}, "shapes"), ({"bias": False}, None),
    ({"bias": 1}, "bias"), ({"activation_function": "os.system"},
                            "os.system"),
    ({"activation_function": "torch.nn.modules.activation.Softmax"},
     "Softmax"), ({"activation_function": 5}, "activation_function"),
    ({"module_output_name": "other"}, "other")])
def test_dense_modules_that_are_refused(made, change, part, tmp_path):
    folder = folder_of(made, tmp_path, [dense(WIDTH, 7)])
    path = folder / "2_Dense" / "config.json"
    put(path, {**json.loads(path.read_text()), **change})
    if part:
        refused(folder, part)


def test_weights_of_dense_modules(made, tmp_path):
    folder = folder_of(made, tmp_path, [dense(WIDTH, 7)])
    path = folder / "2_Dense" / "model.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-10], b"", b"{}", whole[:8]):
        path.write_bytes(content)
        refused(folder, "linear.weight")
    save_file({"linear.weight": np.full([7, WIDTH], np.nan, np.float32),
               "linear.bias": np.zeros(7, np.float32)}, path)
    refused(folder, "finite")
    path.rename(path.with_name("pytorch_model.bin"))
    refused(folder, "no such file", "sentence-transformers")


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
@pytest.mark.parametrize("pad", [0, 2, None, "1", True, -1])
def test_other_ids_of_padding_are_refused(kind, pad, tmp_path):
    made = write(tmp_path, KINDS[kind])
    path = made.folder / "config.json"
    put(path, {**json.loads(path.read_text()), "pad_token_id": pad})
    refused(made.folder, "pad_token_id", repr(pad))


@pytest.mark.parametrize("kind", ["roberta", "mpnet"])
def test_padding_of_the_tokenizer(kind, tmp_path):
    """A token of the id 1 has no place in Hugging Face's classes."""
    made = write(tmp_path, KINDS[kind])
    path = made.folder / "tokenizer_config.json"
    options = json.loads(path.read_text())
    for token in ("<pad>", {"content": "<pad>", "lstrip": False}):
        put(path, {**options, "pad_token": token})
        encoder = TextEncoder(str(made.folder), max_length=24)
        np.testing.assert_allclose(
            encoder(tf.constant(TEXTS[:1])),
            expected(made, texts=TEXTS[:1]), atol=1e-4)
    for token in ("</s>", "no such", 5, {"content": 1}, []):
        put(path, {**options, "pad_token": token})
        refused(made.folder, "pad_token")


@pytest.mark.large
def test_training_and_students(made, tmp_path):
    """SimCSE trains vectors of norm 1; a student reads texts alike."""
    folder = folder_of(
        made, tmp_path, ["Normalize"], mode="cls_token",
        sentence={"max_seq_length": 12},
        prompts={"prompts": {"q": "the "}, "default_prompt_name": "q"})
    encoder = TextEncoder(str(folder), max_length=24, tuning="full",
                          dropout=0.1)
    loss = warm_up(encoder, TEXTS, epochs=2, batch_size=4)["loss"]
    assert np.isfinite(loss).all()
    np.testing.assert_allclose(
        np.linalg.norm(encoder(tf.constant(TEXTS)), axis=1), 1, atol=1e-5)
    teacher = TextEncoder(str(folder), max_length=24)
    for layers, pooling in ((1, "cls"), (0, "mean")):
        to = tmp_path / str(layers)
        distill(teacher, TEXTS, to, layers=layers, samples=40, epochs=2,
                batch_size=8)
        student, found = student_of(teacher, to), read_sentence_folder(to)
        assert found.prompt == "the " and found.after == ("normalise",)
        assert (student.pooling, student.max_length) == (pooling, 12)
        np.testing.assert_allclose(np.linalg.norm(
            student(tf.constant(TEXTS)), axis=1), 1, atol=1e-5)


def test_teachers_with_a_dense_module_are_refused(made, tmp_path):
    folder = folder_of(made, tmp_path, [dense(WIDTH, WIDTH)])
    with pytest.raises(ValueError, match="no Dense module"):
        distill(TextEncoder(str(folder), max_length=24), TEXTS,
                tmp_path / "student", layers=1)


@pytest.mark.large
def test_an_export_reads_texts_alike(made, shop, tmp_path):
    after = [dense(WIDTH, 9), "Normalize"]
    folder = folder_of(made, tmp_path, after, prompts={
        "prompts": {"q": "the "}, "default_prompt_name": "q"})
    encoder = TextEncoder(str(folder), max_length=24)
    exported = Exported(shop, encoder, tmp_path)
    query = exported.model.query_tower
    texts = [text for text in TEXTS if text.strip()]
    vectors = query.standardise(expected(made, after, texts, prompt="the "))
    found = exported.by_session(
        "embed_queries", {"text": np.array(texts, object)})["embedding"]
    np.testing.assert_allclose(
        found, tf.split(query.search(vectors), 2, axis=1)[1], atol=1e-4)


VALUES = (None, True, 0, -1, 2 ** 70, float("nan"), float("inf"), "", "../x",
          "gelu", 3.5, [], [1], {}, {"a": 1})


def mutated(value, rng):
    """A JSON value with one thing in it that is another."""
    if not isinstance(value, (dict, list)) or not value:
        return VALUES[rng.integers(len(VALUES))]
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[rng.integers(len(keys))]
    if rng.random() < 0.2:
        del value[key]
    else:
        value[key] = mutated(
            value[key] if rng.random() < 0.4 else None, rng)
    return value


@pytest.mark.large
@pytest.mark.parametrize("seed", range(4))
def test_mutated_folders(made, seed, tmp_path):
    """They are read or refused in one line, soon."""
    rng = np.random.default_rng(seed)
    whole = folder_of(
        made, tmp_path, [dense(WIDTH, 7), "Normalize"],
        sentence={"max_seq_length": 20, "do_lower_case": False},
        prompts={"prompts": {"q": "the "}, "default_prompt_name": "q"})
    folder = tmp_path / "mutated"
    for _ in range(60):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[rng.integers(len(files))]
        if path.suffix == ".json" and rng.random() < 0.8:
            put(path, mutated(json.loads(path.read_text()), rng))
        elif rng.random() < 0.8:
            content = path.read_bytes()
            path.write_bytes(content[:rng.integers(len(content) + 1)])
        else:
            path.unlink()
        for read in (lambda: token_counts(TEXTS, str(folder)),
                     lambda: TextEncoder(str(folder), max_length=12)(
                         tf.constant(TEXTS))):
            try:
                read()
            except ValueError as error:
                assert "\n" not in str(error), path
