"""StopAtPlateau: more labels bring nothing more."""
from __future__ import annotations

import warnings

import numpy as np
import tf_keras

from tfrecal import checks
from tfrecal.metrics.direction import check_monitor, lower_is_better


class StopAtPlateau(tf_keras.callbacks.Callback):
    """Stops when a metric no longer improves while labels are bought.

    Only epochs that brought labels count, so that epochs of waiting for
    answers stop nothing. (`EarlyStopping` counts every epoch.)

    Args:
        monitor: name of a metric in `logs`; not of the test part.
        patience: rounds without improvement after which training stops.
        min_delta: smallest improvement.
        mode: `"max"`, `"min"`, or `"auto"`: min for names with loss, rmse
            or mae, else max.
        verbose: 1 says why training stops.
    """

    def __init__(self, monitor: str = "val_ndcg@10", patience: int = 3,
                 min_delta: float = 0.0, mode: str = "auto",
                 verbose: int = 1):
        super().__init__()
        checks.at_least(1, patience=patience)
        check_monitor(monitor)
        self.monitor = monitor
        self.patience = patience
        self.min_delta = abs(min_delta)
        self.mode = mode
        self.verbose = verbose
        self._sign = -1.0 if lower_is_better(monitor, mode) else 1.0

    def on_train_begin(self, logs=None):
        self.best = -np.inf
        self.wait = 0

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        if self.monitor not in logs:
            warnings.warn(
                f"`StopAtPlateau` watches `{self.monitor}`, which is not "
                f"there. Available: {', '.join(sorted(logs))}.",
                stacklevel=2)
            return
        value = self._sign * logs[self.monitor]
        if value > self.best + self.min_delta:
            self.best, self.wait = value, 0
        elif logs.get("acquired", 1) > 0:
            self.wait += 1
            if self.wait >= self.patience:
                self.model.stop_training = True
                if self.verbose:
                    print(f"Stopped after epoch {epoch + 1}: "
                          f"`{self.monitor}` has not improved on "
                          f"{self._sign * self.best:.4f} for {self.wait} "
                          "rounds of new labels.")
