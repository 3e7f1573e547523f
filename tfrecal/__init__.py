"""Active learning for recommenders, in TensorFlow and Keras.

Importing tfrecal selects Keras 2 (`tf_keras`), on which
TensorFlow-Recommenders and TF-Transformers stand; import it before
TensorFlow.
"""
from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys

__version__ = "0.1.0"

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Without AVX-512, TensorFlow leaves oneDNN out, which int8 layers need.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from tfrecal import doctor  # noqa: E402

doctor.require()

_PUBLIC = {
    "Interactions": "data.interactions", "Template": "data.templates",
    "TextEncoder": "text.encoder", "QueryTower": "model.towers",
    "CandidateTower": "model.towers", "TwoTower": "model.two_tower",
    "Pool": "pool.pool", "PoolSequence": "pool.sequence",
    "BlockOptions": "model.linear_block",
    "choose_linear_block": "scoring.block_choice",
    "choose_rating_l2": "scoring.rating_choice",
    "solve_ratings": "scoring.ratings", "SolveRatings": "callbacks",
    "PoolScorer": "scoring.scorer", "Target": "pool.target",
    "AcquireLabels": "callbacks", "EvaluateRetrieval": "callbacks",
    "StopAtBudget": "callbacks", "StopAtPlateau": "callbacks",
    "StopAtTime": "callbacks", "StopWhenStable": "callbacks",
    "StopBelowCost": "callbacks", "SavePool": "callbacks",
    "ColumnPrior": "pool.priors", "Embargo": "pool.priors",
    "Rateability": "pool.rateability", "ReplayOracle": "oracles",
    "CallableOracle": "oracles", "FileQueueOracle": "oracles",
    "Journal": "pool.journal"}
# Short paths of modules, such as `tfrecal.splits`, and paths from before the
# rooms.
_MODULES = {
    "beam": "scoring.beam.jobs", "beeformer": "text.beeformer",
    "comparison_config": "compare.config",
    "datasets": "data.datasets", "distill": "text.distill",
    "encoders": "text.encoder", "experiment": "compare.comparison",
    "interactions": "data.interactions", "journal": "pool.journal",
    "models": "model.two_tower", "oracles.feedback": "feedback.oracle",
    "priors": "pool.priors", "scenarios": "compare.scenarios",
    "sequence": "pool.sequence", "serving.exploration":
    "feedback.exploration", "serving.feedback_log":
    "feedback.log.feedback_log", "serving.wanted": "feedback.wanted_pairs",
    "simcse": "text.simcse", "splits": "data.splits",
    "target": "pool.target", "tasks": "model.tasks",
    "texts": "data.templates", "towers": "model.towers",
    "vectors": "scoring.beam.vectors", "world": "data.world.world"}
__all__ = [*_PUBLIC, "__version__"]


def __getattr__(name: str):
    """Imports public names at first use, so that `import tfrecal` is quick."""
    if name in _PUBLIC:
        module = importlib.import_module(f"tfrecal.{_PUBLIC[name]}")
        return getattr(module, name)
    if name in _MODULES or name == "metrics":
        return importlib.import_module(f"tfrecal.{name}")
    raise AttributeError(f"module 'tfrecal' has no attribute {name!r}")


class _ShortPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the modules of `_MODULES` from where they are."""

    def find_spec(self, fullname, path=None, target=None):
        package, _, name = fullname.partition(".")
        if package == "tfrecal" and name in _MODULES:
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        name = module.__name__.partition(".")[2]
        sys.modules[module.__name__] = importlib.import_module(
            f"tfrecal.{_MODULES[name]}")


sys.meta_path.append(_ShortPaths())
