"""View: candidate pairs as a strategy sees them."""
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

SHAPES = {"item": "n", "mean": "n", "samples": "pn", "probabilities": "nc",
          "sample_probabilities": "pnc", "rateability": "n", "prior": "n",
          "cost": "n"}
_ROWS = {"labelled": ("labelled_user", "labelled_item", "labelled_label"),
         "target": ("target_user", "target_item", "target_weight")}
_BY_CODE = {"user": ("user_labelled", "user_traffic", "query_vectors"),
            "item": ("item_labelled", "item_traffic", "candidate_vectors")}


@dataclass
class View:
    """Candidate pairs as arrays, computed once a round for all strategies.

    Optional fields are None unless a strategy's `needs` names them.

    Args:
        user, item: codes of the candidate pairs, int32 `[n]`; never 0.
        user_labelled, item_labelled: labelled pairs of each user and item
            by code, int `[users + 1]`, `[items + 1]`.
        user_traffic, item_traffic: pairs of each in the log of natural
            traffic, known without labels, float `[users + 1]`, `[items + 1]`.
        labelled_user, labelled_item: codes of the labelled pairs, int32
            `[m]`.
        labelled_label: their labels, float32 `[m]`.
        target_user, target_item, target_weight: codes of the pairs to be
            served, and the weight of each, which sum to 1; `[t]` (need:
            `"target"`).
        mean: predicted labels, float32 `[n]`.
        samples: predicted labels of MC-dropout passes, `[passes, n]`.
        probabilities: calibrated probabilities, `[n, classes]`.
        sample_probabilities: the same for each pass,
            `[passes, n, classes]`.
        levels: the label that each class stands for, rising, `[classes]`;
            given with `probabilities` and `sample_probabilities`.
        rateability: probability that the user of each candidate can answer
            about its item, in [0, 1], `[n]`.
        query_vectors, candidate_vectors: by code, `[users + 1, d]`,
            `[items + 1, d]` (need: `"vectors"`).
        prior: factor of each candidate from domain knowledge, >= 0, `[n]`;
            zero is never chosen.
        cost: what a label of each candidate costs, > 0, `[n]`.

    Attributes:
        kept: what a strategy computed from this view and needs again in the
            same round, by a key of its own.

    Raises:
        ValueError: lengths differ, or a code lies outside an array by code.
    """

    user: np.ndarray
    item: np.ndarray
    user_labelled: np.ndarray | None = None
    item_labelled: np.ndarray | None = None
    user_traffic: np.ndarray | None = None
    item_traffic: np.ndarray | None = None
    labelled_user: np.ndarray | None = None
    labelled_item: np.ndarray | None = None
    labelled_label: np.ndarray | None = None
    target_user: np.ndarray | None = None
    target_item: np.ndarray | None = None
    target_weight: np.ndarray | None = None
    mean: np.ndarray | None = None
    samples: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    sample_probabilities: np.ndarray | None = None
    levels: np.ndarray | None = None
    rateability: np.ndarray | None = None
    query_vectors: np.ndarray | None = None
    candidate_vectors: np.ndarray | None = None
    prior: np.ndarray | None = None
    cost: np.ndarray | None = None
    kept: dict = field(default_factory=dict, init=False, repr=False,
                       compare=False)

    def __post_init__(self):
        for name, form in SHAPES.items():
            shape = np.shape(getattr(self, name))
            if getattr(self, name) is not None and not (
                    len(shape) == len(form)
                    and shape[form.index("n")] == len(self)):
                raise ValueError(
                    f"`{name}` must be [{', '.join(form)}] with n={len(self)} "
                    f"candidates. Received: shape={shape}.")
        for names in _ROWS.values():
            shapes = [np.shape(getattr(self, name)) for name in names]
            if len(set(shapes)) > 1:
                raise ValueError(
                    f"{', '.join(f'`{name}`' for name in names)} must have "
                    "one length. Received: shapes "
                    f"{' and '.join(map(str, shapes))}.")
        for side, tables in _BY_CODE.items():
            sizes = [len(getattr(self, table)) for table in tables
                     if getattr(self, table) is not None]
            for name in (side, f"labelled_{side}", f"target_{side}"):
                self._check_codes(name, min(sizes, default=np.inf))

    def _check_codes(self, name: str, size: float) -> None:
        codes = getattr(self, name)
        if codes is None or not len(codes):
            return
        low, high = np.min(codes), np.max(codes)
        if low < 1 or high >= size:
            raise ValueError(
                f"`{name}` must hold codes from 1 up, below the length of "
                f"each array by code. Received: codes {low} to {high}, and "
                f"the shortest has length {size}.")

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray) -> "View":
        """Returns a view of some of the candidates.

        Args:
            rows: their positions in this view, int `[k]`.
        """
        fields = {"user": self.user[rows]}
        for name, form in SHAPES.items():
            if getattr(self, name) is not None:
                fields[name] = np.take(
                    getattr(self, name), rows, axis=form.index("n"))
        return dataclasses.replace(self, **fields)
