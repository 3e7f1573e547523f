"""Active learning for recommenders, in TensorFlow and Keras.

Importing tfrecal selects Keras 2 (`tf_keras`), on which
TensorFlow-Recommenders and TF-Transformers stand; import it before
TensorFlow.
"""
from __future__ import annotations

import importlib
import os

__version__ = "0.1.0"

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tfrecal import doctor  # noqa: E402

doctor.require()

_PUBLIC = {
    "Interactions": "interactions", "Template": "texts",
    "TextEncoder": "encoders", "QueryTower": "towers",
    "CandidateTower": "towers", "TwoTower": "models", "Pool": "pool",
    "PoolSequence": "sequence", "PoolScorer": "scoring",
    "AcquireLabels": "callbacks", "EvaluateRetrieval": "callbacks",
    "Target": "target", "StopAtBudget": "callbacks",
    "StopAtPlateau": "callbacks", "StopAtTime": "callbacks",
    "StopWhenStable": "callbacks", "StopBelowCost": "callbacks",
    "SavePool": "callbacks", "ColumnPrior": "priors", "Embargo": "priors",
    "Rateability": "rateability", "ReplayOracle": "oracles",
    "CallableOracle": "oracles", "FileQueueOracle": "oracles",
    "Journal": "journal"}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    """Public names, imported at first use so that `import tfrecal` is quick."""
    if name in _PUBLIC:
        module = importlib.import_module(f"tfrecal.{_PUBLIC[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'tfrecal' has no attribute {name!r}")
