"""How many texts a second does `TextEncoder` encode, beside other libraries?

The same MiniLM weights, the same texts, every library with its own
tokenizer, from strings to vectors, in one process and taking turns. Each
round has other texts. Peers sort by length and have the best of a few batch
sizes; ours has its default. Nothing comes from the cache on disk.

- short: titles of MovieLens-100K with the year, as GroupLens writes them;
- long: the titles of the last 20 films that a user liked, as one text, cut
  at 128 tokens.

`vs_sentence_transformers_...` is the median over rounds of the ratio within
a round, on short texts. `share_of_sgemm` is what ours in fp32 computes of
short texts (21.2 MFLOP a token: two for each weight of the six layers) over
what TensorFlow's product of two matrices of 2,048 x 2,048 does in the run.

With `--one-thread` all use one thread and the clock is the processor time of
the process: what other jobs take does not count, on a busy machine the only
honest clock.

The peers' wheels resolve beside the stack, but torch's from PyPI is the one
for CUDA:

    pip install --no-deps torch==2.13.0+cpu sentence-transformers==5.1.2
    pip install onnx onnxruntime openvino scikit-learn sympy networkx

    python benchmarks/encoding.py [--quick] [--one-thread]
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import tfrecal  # noqa: F401  (selects Keras 2, so before TensorFlow)

import tensorflow as tf  # isort: skip

from helpers import encoding_peers as libraries

from tfrecal import datasets, doctor
from tfrecal.data import assets
from tfrecal.data.templates import history_text
from tfrecal.text import encode_many
from tfrecal.text.encoder import TextEncoder

MAX_LENGTH = 128
TOKEN_FLOP = 2 * 6 * (4 * 384 * 384 + 2 * 384 * 1536)
REFERENCE = "sentence-transformers fp32"
BATCH_SIZES = (16, 32, 64)
STEP_TOKENS = 16 * 256  # the default of `TextEncoder.encode`


def make_texts() -> dict[str, list[str]]:
    """Short and long texts of MovieLens-100K, by name."""
    data = datasets.load("ml-100k")
    titles, years = data.items["title"], data.items["year"]
    title_of = dict(zip(data.items.index, titles))
    liked = data.frame[data.frame["label"] >= 4].sort_values(
        "timestamp", kind="stable")
    return {
        "short": list(dict.fromkeys(
            f"{title} ({year})" for title, year in zip(titles, years))),
        "long": [history_text([title_of[item] for item in items], 20)
                 for _, items in liked.groupby("user_id")["item_id"]]}


def make_encoders(threads: int, folder: Path, say) -> dict:
    """Functions of texts and a batch size, by name; ours first."""
    found = {}
    for short, precision in (("fp32", "float32"), ("bf16", "bfloat16")):
        encoder = TextEncoder(max_length=MAX_LENGTH, precision=precision)
        encoder.bulk_step(2**20)  # from here on it uses its graph
        found[f"tfrecal {short}"] = lambda texts, _, encoder=encoder: (
            encode_many.run(encoder, texts, STEP_TOKENS, False))
    checkpoint = assets.encoder_folder("minilm")
    onnx = folder / "minilm.onnx"
    for name, make, options in (
            ("sentence-transformers", libraries.sentence_transformers, ()),
            ("torch and onnx", libraries.export_onnx, None),
            ("ONNX Runtime", libraries.onnx_runtime, (onnx,)),
            ("OpenVINO", libraries.openvino, (onnx,))):
        try:
            if options is None:
                make(checkpoint, onnx)
            elif not options or onnx.exists():
                found |= make(checkpoint, MAX_LENGTH, threads, *options)
        except ImportError as error:
            say(f"{name} is left out: {error}")
        say(f"made {name}")
    return found


def sgemm(clock, kind: tf.DType, size: int = 2048) -> float:
    """GFLOP/s of a product of two square matrices, best of five."""
    left = right = tf.cast(tf.random.stateless_normal([size, size], [0, 1]),
                           kind)
    tf.matmul(left, right).numpy()
    times = []
    for _ in range(5):
        start = clock()
        tf.matmul(left, right).numpy()
        times.append(clock() - start)
    return 2 * size**3 / min(times) / 1e9


def measure(encoders, texts, rows: int, rounds: int, clock, say) -> dict:
    """Seconds of each encoder in each round, and how near its vectors are.

    Returns:
        name -> {"seconds": `[rounds]`, "batch_size", "cosine": smallest}.
    """
    rng = np.random.default_rng(0)
    sample = [texts[n] for n in rng.choice(len(texts), rows, replace=False)]
    found, reference = {}, None
    for name, encode in encoders.items():
        times = {}
        for size in (None,) if name.startswith("tfrecal") else BATCH_SIZES:
            vectors = encode(sample, size)  # builds what is built once
            start = clock()
            encode(sample, size)
            times[size] = clock() - start
        found[name] = {"seconds": [], "vectors": vectors,
                       "batch_size": min(times, key=times.get)}
    reference = found.get(REFERENCE, found["tfrecal fp32"])["vectors"]
    for row in found.values():
        row["cosine"] = float(_cosines(row.pop("vectors"), reference).min())
    say("batch sizes chosen")
    for turn in range(rounds):
        sample = [texts[n] for n in rng.choice(
            len(texts), rows, replace=False)]
        for name, encode in encoders.items():
            start = clock()
            encode(sample, found[name]["batch_size"])
            found[name]["seconds"].append(clock() - start)
            time.sleep(0.02)  # threads of one that still spin
        say(f"round {turn + 1} of {rounds}")
    return found


def _cosines(one, other):
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / norms


def show(title: str, found: dict, rows: int) -> dict[str, float]:
    """Prints a table; ratios to sentence-transformers in fp32, by name."""
    base = found.get(REFERENCE, {"seconds": [np.nan]})["seconds"]
    print(f"\n{title}")
    print(f"{'encoder':28}{'texts/s':>9}{'x s.-t.':>9}{'smallest cosine':>17}"
          f"{'batch':>7}")
    ratios = {}
    for name, row in found.items():
        ratios[name] = float(np.median(
            np.array(base) / np.array(row["seconds"])))
        print(f"{name:28}{rows / np.median(row['seconds']):9.0f}"
              f"{ratios[name]:9.2f}{row['cosine']:17.5f}"
              f"{row['batch_size'] or '':>7}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds in place of 9")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--rows", type=int, nargs=2, default=[400, 60],
                        help="short and long texts a round")
    parser.add_argument("--one-thread", action="store_true",
                        help="one thread each, processor time")
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 9)
    threads, clock = doctor.cores(), time.perf_counter
    if options.one_thread:
        threads, clock = 1, time.process_time
    os.environ["TOKENIZERS_PARALLELISM"] = str(threads > 1).lower()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    begun = time.perf_counter()

    def say(text):
        print(f"[{time.perf_counter() - begun:5.0f} s] {text}",
              file=sys.stderr, flush=True)

    texts = make_texts()
    with tempfile.TemporaryDirectory() as folder:
        encoders = make_encoders(threads, Path(folder), say)
        counter = TextEncoder(max_length=MAX_LENGTH)
        peaks = [sgemm(clock, kind) for kind in (tf.float32, tf.bfloat16)]
        found, ratios, speeds = {}, {}, {}
        for (kind, some), rows in zip(texts.items(), options.rows):
            tokens = encode_many.tokenize(counter, some)[1].mean()
            found = measure(encoders, some, rows, rounds, clock, say)
            ratios[kind] = show(
                f"{kind}: {tokens:.0f} tokens on average, {rows} texts a "
                f"round, median of {rounds}; {threads} threads", found, rows)
            speeds[kind] = {name: rows / np.median(row["seconds"])
                            for name, row in found.items()}
            ours = [speeds[kind][f"tfrecal {name}"] * tokens * TOKEN_FLOP / 1e9
                    for name in ("fp32", "bf16")]
            print(f"GFLOP/s: ours {ours[0]:.0f} in fp32, {ours[1]:.0f} in "
                  f"bf16; a product {peaks[0]:.0f} and {peaks[1]:.0f}")
            if kind == "short":
                share = ours[0] / peaks[0]
    print(json.dumps({
        "vs_sentence_transformers_f32": round(
            ratios["short"]["tfrecal fp32"], 2),
        "vs_sentence_transformers_bf16": round(
            ratios["short"]["tfrecal bf16"], 2),
        "share_of_sgemm": round(share, 2),
        "clock": "processor time, one thread" if options.one_thread
        else f"wall time, {threads} threads",
        "texts_per_s": {kind: {name: round(speed) for name, speed in
                               row.items()} for kind, row in speeds.items()}}))


if __name__ == "__main__":
    main()
