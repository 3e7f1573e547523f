"""Callbacks for one Keras `fit`, in this order: `EvaluateRetrieval`,
`AcquireLabels`, `StopAtBudget` or `StopAtPlateau`, `SavePool`."""
from tfrecal.callbacks.acquire_labels import AcquireLabels
from tfrecal.callbacks.evaluate_retrieval import EvaluateRetrieval
from tfrecal.callbacks.save_pool import SavePool
from tfrecal.callbacks.stop_at_budget import StopAtBudget
from tfrecal.callbacks.stop_at_plateau import StopAtPlateau

__all__ = ["AcquireLabels", "EvaluateRetrieval", "SavePool", "StopAtBudget",
           "StopAtPlateau"]
