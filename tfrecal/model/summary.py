"""What a model is made of: one line, or a table of layers and weights."""
from __future__ import annotations

import numpy as np


def one_line(model) -> str:
    """Returns towers, sizes, encoder, dropout and tasks of a `TwoTower`."""
    query, candidate = model.query_tower, model.candidate_tower
    towers = "query_tower={}, candidate_tower={}".format(*(
        f"<{len(tower.ids):,} ids>" for tower in (query, candidate)))
    encoder = candidate.encoder or query.encoder
    read = encoder and (f"<{type(encoder).__name__} {encoder.checkpoint!r}, "
                        f"tuning={encoder.tuning!r}>")
    tasks = ", ".join(
        f"{task.name}={task.weight:g}" for task in model.tasks)
    return (f"{type(model).__name__}({towers}, embedding_dim="
            f"{candidate.embedding_dim}, encoder={read}, dropout="
            f"{candidate.dropout:g}, tasks=<{tasks}>)")


def print_summary(model, line_length=None, print_fn=None,
                  expand_nested=False, show_trainable=False) -> None:
    """Prints the table of `KerasVerbs.summary`; each weight counts once.

    Weights of metrics, which Keras counts too, are left out.
    """
    rows, seen = [("Layer (type)", "Output", "Weights", "Trained")], {}
    encoders = {id(e): e for e in (
        model.query_tower.encoder, model.candidate_tower.encoder) if e}
    for layer in (*encoders.values(), *model.layers):
        weights = [w for w in layer.weights if id(w) not in seen]
        seen.update({id(weight): weight for weight in weights})
        trained = _count(weights, layer.trainable_weights)
        rows.append((f"{layer.name} ({type(layer).__name__})",
                     _output_shape(layer),
                     f"{_count(weights):,}", f"{trained:,}"))
        for weight in weights if expand_nested else ():
            rows.append((f"  {weight.name.split(':')[0]}",
                         str(list(weight.shape)), f"{_count([weight]):,}",
                         f"{_count([weight], layer.trainable_weights):,}"))
    if not show_trainable:
        rows = [row[:-1] for row in rows]
    width = [max(map(len, column)) for column in zip(*rows)]
    free = (line_length or 0) - sum(width) - 2 * len(width) + 2
    width[0] += max(free, 0)
    line, tell = "_" * (sum(width) + 2 * len(width) - 2), print_fn or print
    tell(f'Model: "{model.name}" ({type(model).__name__})')
    tell(line)
    for number, row in enumerate(rows):
        tell("  ".join([*(cell.ljust(w) for cell, w in zip(
            row[:2], width)), *(cell.rjust(w) for cell, w in zip(
                row[2:], width[2:]))]).rstrip())
        if not number:
            tell(line.replace("_", "="))
    tell(line)
    total, trained = (_count(seen.values()),
                      _count(seen.values(), model.trainable_weights))
    tell(f"Total params: {total:,}")
    tell(f"Trainable params: {trained:,}")
    tell(f"Non-trainable params: {total - trained:,}")
    tell(line)


def _count(weights, among=None) -> int:
    """Returns the number of numbers in weights, or in those in `among`."""
    kept = None if among is None else set(map(id, among))
    return sum(int(np.prod(weight.shape)) for weight in
               {id(w): w for w in weights}.values()
               if kept is None or id(weight) in kept)


def _output_shape(layer) -> str:
    if hasattr(layer, "embedding_dim"):
        d = layer.embedding_dim
        return f"rating [B, {d + 2}], retrieval [B, {d}]"
    return f"[B, {layer.dim}]" if hasattr(layer, "dim") else "a loss"
