"""LabelScaling: maps labels to another scale and back."""
from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tfrecal import checks
from tfrecal.data.vocabulary import Vocabulary

METHODS = ("minmax", "user_mean", "z_score")


@dataclass(frozen=True, eq=False)
class LabelScaling:
    """A fitted map of labels, with all that its inverse needs.

    Fit it on the rows that train (`train.normalise("user_mean")`) and apply
    it to the others (`test.normalise(train.scaling)`): a mean over test
    rows would leak them to the model.

    Attributes:
        method: `"minmax"` maps the scale to 0..1; `"user_mean"` subtracts
            each user's mean; `"z_score"` also divides by the user's
            standard deviation (1 where all labels are equal).
        scale: (lowest, highest) label before.
        users: `mean` and `std` by user id.
        mean, std: mean and standard deviation of all rows, for users that
            the fit did not see.
    """

    method: str
    scale: tuple[float, float]
    users: pd.DataFrame
    mean: float
    std: float

    @classmethod
    def fit(cls, method: str, user_id: pd.Series, label: pd.Series,
            scale: tuple[float, float]) -> "LabelScaling":
        """Returns a map with the means and deviations of labels.

        Args:
            method: one of `METHODS`.
            user_id, label: the rows, `[n]` each.
            scale: (lowest, highest) label.

        Raises:
            ValueError: the method is unknown, or the scale has one value.
        """
        checks.one_of("method", method, METHODS)
        if method == "minmax" and not scale[0] < scale[1]:
            raise ValueError(
                "\"minmax\" needs a scale of more than one value. Received: "
                f"scale={scale}. Pass the scale of the labels: "
                "`scale=(1, 5)`.")
        label = label.astype(np.float64)
        by_user = label.groupby(user_id)
        users = pd.DataFrame({"mean": by_user.mean(),
                              "std": _without_zeros(by_user.std(ddof=0))})
        return cls(method, scale, users, float(label.mean()),
                   float(_without_zeros(pd.Series([label.std(ddof=0)]))[0]))

    def offset_and_factor(self, user_ids) -> tuple[np.ndarray, np.ndarray]:
        """Returns offset and factor of each user, float64 `[n]` each.

        The new label is (label - offset) / factor.
        """
        if self.method == "minmax":
            low, high = self.scale
            return (np.full(len(user_ids), low),
                    np.full(len(user_ids), high - low))
        code = self._vocabulary.codes(user_ids)
        offset = np.append(self.mean, self.users["mean"])[code]
        if self.method == "user_mean":
            return offset, np.ones(len(code))
        return offset, np.append(self.std, self.users["std"])[code]

    @functools.cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self.users.index, "user_id")

    def apply(self, user_ids, labels) -> np.ndarray:
        """Returns labels on the new scale, float32 `[n]`."""
        offset, factor = self.offset_and_factor(user_ids)
        return ((np.asarray(labels, np.float64) - offset)
                / factor).astype(np.float32)

    def invert(self, user_ids, labels) -> np.ndarray:
        """Returns labels on the old scale, float32 `[n]`."""
        offset, factor = self.offset_and_factor(user_ids)
        return (np.asarray(labels, np.float64) * factor
                + offset).astype(np.float32)

    @property
    def new_scale(self) -> tuple[float, float]:
        """Lowest and highest label that any user can have afterwards."""
        ids = [*self.users.index, ""]       # "" stands for unseen users
        low, high = (self.apply(ids, np.full(len(ids), end))
                     for end in self.scale)
        return float(low.min()), float(high.max())

    def to_dict(self) -> dict:
        """Returns all but `users`, in a form for JSON."""
        return {"method": self.method, "scale": list(self.scale),
                "mean": self.mean, "std": self.std}

    @classmethod
    def from_dict(cls, form: dict | None, users) -> "LabelScaling | None":
        """Returns the map that `to_dict` described; None for None."""
        if form is None:
            return None
        return cls(users=users, **{**form, "scale": tuple(form["scale"])})


def _without_zeros(deviation: pd.Series) -> pd.Series:
    """Returns deviations with 1 in place of 0 (up to rounding)."""
    return deviation.where(deviation > 1e-9, 1.0)
