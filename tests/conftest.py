"""What all tests share: the stack's settings, one cache, small data."""
from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The processes of pytest-xdist share the cores: BLAS threads of each would
# only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The weights of `large` tests are worth keeping; the worker processes of
# pytest-xdist share them and inherit this from their parent.
if "TFRECAL_HOME" not in os.environ:
    os.environ["TFRECAL_HOME"] = str(
        Path(tempfile.gettempdir()) / f"tfrecal-tests-{os.getuid()}")

import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Files that take longest, in this order; then the others with slow tests.
_LONGEST = [
    "test_loop_files.py", "test_run.py", "test_export.py", "test_notebooks.py",
    "test_readme_commands.py", "test_retrain.py", "test_run_options.py",
    "test_workers.py", "test_gradient_cache.py", "test_experiment.py",
    "test_encoders.py", "test_broken_folders.py", "test_datasets.py",
    "test_own_files.py", "test_auto_tuning.py", "test_beeformer_runs.py",
    "test_sequence_tower.py", "test_sums.py", "test_end_to_end.py",
    "test_beam.py"]
_UNOPTIMISED = {"cli", "compare", "export", "feedback", "report", "retrain"}
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def pytest_collection_modifyitems(items):
    """Files with slow tests first: a long last one leaves a core idle."""
    slow = {item.path for item in items if item.get_closest_marker("large")}
    place = {name: n for n, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: (
        place.get(item.path.name, len(place)), item.path not in slow))


@pytest.fixture(scope="module", autouse=True)
def graphs(request):
    """Graphs are forgotten after their file, and in some rooms not optimised.

    Grappler costs a fifth of the time where a graph is run once. It changes
    the order of sums: where numbers are compared to the last bit, it stays.
    """
    if "tensorflow" not in sys.modules:
        yield
        return
    import tensorflow as tf
    from tensorflow.python.framework import ops

    tf.config.optimizer.set_experimental_options({
        "disable_meta_optimizer": request.path.parent.name in _UNOPTIMISED})
    gradients = ops.gradient_registry._registry
    before = set(gradients)
    yield
    # TensorFlow keeps each gradient of `tf.custom_gradient`, and with it the
    # graph, for ever: gigabytes at the end of all tests.
    for name in set(gradients) - before:
        if name.startswith("CustomGradient-"):
            del gradients[name]
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def ops_are_looked_up_once():
    """Exports ask a process of its own of which package an op is: 4 s."""
    if "tensorflow" not in sys.modules:
        yield
        return
    from tfrecal.export import op_audit

    ask, outside = op_audit._outside_core, {}

    def look_up(names):
        new = tuple(name for name in names if name not in outside)
        if new:
            found = ask(new)
            outside.update((name, name in found) for name in new)
        return [name for name in names if outside[name]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(op_audit, "_outside_core", look_up)
        yield


@pytest.fixture(scope="session")
def shop():
    """A small synthetic shop; read-only, shared by all tests."""
    from tfrecal import datasets

    return datasets.shop(users=40, items=30, topics=4, ratings=500, seed=0)


@pytest.fixture
def command_line(capsys):
    """`tfrecal` with arguments, in this process: (exit code, what it said)."""
    from tfrecal import cli

    def call(*arguments):
        try:
            code = cli.main([str(part) for part in arguments])
        except SystemExit as error:  # of argparse
            code = error.code
        return code, "".join(capsys.readouterr())
    return call


@pytest.fixture(scope="session")
def ml100k():
    """MovieLens-100K; for tests marked `large`."""
    from tfrecal import datasets

    return datasets.load("ml-100k")


@pytest.fixture(scope="session")
def minilm_folder():
    """The folder of all-MiniLM-L6-v2; for tests marked `large`."""
    from tfrecal.data import assets

    return assets.encoder_folder("minilm")


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory):
    """A random BERT checkpoint: 2 layers, width 32, the shop's words."""
    folder = tmp_path_factory.mktemp("tiny_bert")
    vocabulary = tiny_vocabulary()
    write_tiny_bert(folder, vocabulary)
    return folder


@pytest.fixture(scope="session")
def certificate_files(tmp_path_factory):
    """A certificate of localhost, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days",
         "2", "-keyout", "key.pem", "-out", "cert.pem", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def tiny_vocabulary() -> list[str]:
    """Special tokens, letters and digits, and the shop's words."""
    from tfrecal.data.sets.shop import WORDS

    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-|/")
    pieces = ["##" + c for c in letters if c.isalnum()]
    fields = ["title", "category", "description", "genres", "year", "price",
              "##s", "##ing", "the", "and", "for", "a", "of", "with"]
    words = {*fields, *WORDS} - set(letters) - set(pieces)
    return _SPECIAL + letters + pieces + sorted(words)


def write_tiny_bert(folder: Path, vocabulary: list[str], layers: int = 2,
                    width: int = 32, seed: int = 0) -> None:
    """Writes a checkpoint as Hugging Face lays it out, without torch.

    Weights are normal with a standard deviation of 0.2, ten times BERT's,
    so that texts have clearly different encodings.
    """
    from safetensors.numpy import save_file

    config = {
        "model_type": "bert", "architectures": ["BertModel"],
        "vocab_size": len(vocabulary), "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": 2,
        "intermediate_size": 2 * width, "hidden_act": "gelu",
        "max_position_embeddings": 64, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True,
         "model_max_length": 64}))
    rng = np.random.default_rng(seed)

    def dense(out, into):
        return rng.normal(0, 0.2, (out, into)).astype(np.float32)

    weights = {}

    def norm(name):
        weights[f"{name}.weight"] = np.ones(width, np.float32)
        weights[f"{name}.bias"] = np.zeros(width, np.float32)

    for name, rows in (("word", len(vocabulary)), ("position", 64),
                       ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = dense(rows, width)
    norm("embeddings.LayerNorm")
    for n in range(layers):
        layer = f"encoder.layer.{n}"
        for name, out, into in (
                ("attention.self.query", width, width),
                ("attention.self.key", width, width),
                ("attention.self.value", width, width),
                ("attention.output.dense", width, width),
                ("intermediate.dense", 2 * width, width),
                ("output.dense", width, 2 * width)):
            weights[f"{layer}.{name}.weight"] = dense(out, into)
            weights[f"{layer}.{name}.bias"] = dense(1, out)[0]
        norm(f"{layer}.attention.output.LayerNorm")
        norm(f"{layer}.output.LayerNorm")
    save_file(weights, folder / "model.safetensors",
              metadata={"format": "pt"})


@pytest.fixture(scope="module")
def served(shop, tiny_bert_folder, tmp_path_factory):
    """A `Served` model that reads texts."""
    from exports import Served

    from tfrecal import TextEncoder

    encoder = TextEncoder(tiny_bert_folder, max_length=12)
    found = Served(shop, encoder, tmp_path_factory.mktemp("models") / "shop")
    yield found
    found.server.stop(0)


@pytest.fixture
def interrupt():
    """Calls `work`, in which call number `call` of a method is a Ctrl-C.

    `where` is the class and the method's name.
    """
    def run(where, call, work):
        real, calls = getattr(*where), []

        def interrupted(self, *args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                raise KeyboardInterrupt
            return real(self, *args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*where, interrupted)
            with pytest.raises(KeyboardInterrupt):
                work()

    return run
