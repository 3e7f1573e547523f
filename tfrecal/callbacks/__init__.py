"""Callbacks for one Keras `fit`, in this order: `SolveRatings`,
`EvaluateRetrieval`, `AcquireLabels`, those that stop (`StopAtBudget` and the
like), `SavePool`."""
from tfrecal.callbacks.acquire_labels import AcquireLabels
from tfrecal.callbacks.chief_decides import ChiefDecides
from tfrecal.callbacks.evaluate_retrieval import EvaluateRetrieval
from tfrecal.callbacks.save_pool import SavePool
from tfrecal.callbacks.solve_ratings import SolveRatings
from tfrecal.callbacks.stop_at_budget import StopAtBudget
from tfrecal.callbacks.stop_at_plateau import StopAtPlateau
from tfrecal.callbacks.stop_at_time import StopAtTime
from tfrecal.callbacks.stop_below_cost import StopBelowCost
from tfrecal.callbacks.stop_when_stable import StopWhenStable

__all__ = ["AcquireLabels", "ChiefDecides", "EvaluateRetrieval", "SavePool",
           "SolveRatings", "StopAtBudget", "StopAtPlateau", "StopAtTime",
           "StopBelowCost", "StopWhenStable"]
