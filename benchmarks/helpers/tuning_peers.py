"""Fine-tuning of the same encoder in PyTorch, rows a second.

`rows_per_second` is imported by `tuning.py`; install the peers as
`encoding.py` says. Alone, in `benchmarks/`:

    python -m helpers.tuning_peers [--steps 5] [--batch-size 64]

- "sentence-transformers": its usual step,
  `MultipleNegativesRankingLoss` on (titles of up to three items that the user
  has in these rows, item text), both through the one encoder. There is no
  text of a user, and this is the customary stand-in; a row costs two
  encodings.
- "torch": a user table and a dense layer on the encoder's mean of tokens,
  in-batch softmax, every row encoded: the same job as ours.

Both: AdamW, the whole encoder trained, dropout of 0.1 as the checkpoint has
it, tokenised within the step, as the libraries do.
"""
from __future__ import annotations

import argparse
import json
import time

import numpy as np

MAX_LENGTH = 64
DIM = 64


def rows_per_second(texts: list[str], user_codes, item_codes,
                    batch_size: int, steps: int,
                    seed: int) -> dict[str, float]:
    """Rows a second of training steps, median, after one to warm up.

    Args:
        texts: of each item; item code 0 stands for no item, code 1 for the
            first text.
        user_codes, item_codes: `[rows]` integers, liked pairs.
        batch_size: rows a step.
        steps: that are timed.
        seed: of weights and of the order of rows.

    Returns:
        name -> rows a second.

    Raises:
        ImportError: PyTorch or sentence-transformers is missing.
        ValueError: too few rows for one batch.
    """
    import torch

    from tfrecal import doctor
    from tfrecal.data import assets

    user_codes, item_codes = np.asarray(user_codes), np.asarray(item_codes)
    if len(user_codes) < batch_size:
        raise ValueError(
            "There must be at least `batch_size` rows. Received: "
            f"{len(user_codes)} rows, batch_size={batch_size}. Take fewer.")
    torch.manual_seed(seed)
    torch.set_num_threads(doctor.cores())
    rng = np.random.default_rng(seed)
    batches = [rng.choice(len(user_codes), batch_size, replace=False)
               for _ in range(steps + 1)]
    found = {}
    for name, make in (("sentence-transformers", _ranking_step),
                       ("torch", _table_step)):
        step = make(assets.encoder_folder("minilm"), texts, user_codes,
                    item_codes)
        times = []
        for rows in batches:
            start = time.perf_counter()
            step(rows)
            times.append(time.perf_counter() - start)
        found[name] = batch_size / float(np.median(times[1:]))
    return found


def _ranking_step(folder, texts, user_codes, item_codes):
    """(history text, item text) through sentence-transformers' own loss."""
    import torch
    from helpers.encoding_peers import sentence_model
    from sentence_transformers import losses

    model = sentence_model(folder, MAX_LENGTH)
    loss = losses.MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-5)
    items_of: dict[int, list[int]] = {}
    for user, item in zip(user_codes.tolist(), item_codes.tolist()):
        items_of.setdefault(user, []).append(item)
    model.train()

    def anchor(user, item):
        others = [other for other in items_of[user] if other != item]
        return "; ".join(texts[other - 1] for other in others[-3:])

    def step(rows):
        anchors = [anchor(user, item) for user, item in zip(
            user_codes[rows].tolist(), item_codes[rows].tolist())]
        positives = [texts[item - 1] for item in item_codes[rows]]
        features = [model.tokenize(anchors), model.tokenize(positives)]
        optimizer.zero_grad()
        loss(features, None).backward()
        optimizer.step()

    return step


def _table_step(folder, texts, user_codes, item_codes):
    """A user table against item vectors, in-batch softmax."""
    import torch
    from helpers.encoding_peers import sentence_model

    model = sentence_model(folder, MAX_LENGTH)
    users = torch.nn.Embedding(int(user_codes.max()) + 1, DIM)
    dense = torch.nn.Linear(
        model.get_sentence_embedding_dimension(), DIM, bias=False)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *users.parameters(), *dense.parameters()], 2e-5)
    model.train()

    def step(rows):
        features = model.tokenize([texts[item - 1]
                                   for item in item_codes[rows]])
        candidates = dense(model(features)["sentence_embedding"])
        queries = users(torch.as_tensor(user_codes[rows], dtype=torch.int64))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            queries @ candidates.T, torch.arange(len(rows))).backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from tfrecal import datasets
    from tfrecal.data.templates import default_template

    data = datasets.load("ml-100k")
    liked = data.frame["label"].to_numpy() >= 4
    found = rows_per_second(
        default_template(data.items)(data.items), data.user_code[liked],
        data.item_code[liked], options.batch_size, options.steps,
        options.seed)
    for name, speed in found.items():
        print(f"{name:24}{speed:8.1f} rows/s, {options.batch_size} a step")
    print(json.dumps({name: round(speed, 1)
                      for name, speed in found.items()}))


if __name__ == "__main__":
    main()
