"""What is trained: towers, tasks, and what any model must offer."""
from __future__ import annotations

from tfrecal.model.sequence_tower import SequenceQueryTower
from tfrecal.model.tasks import (
    Pairwise,
    Rating,
    Retrieval,
    Search,
    default_tasks,
)
from tfrecal.model.towers import CandidateTower, QueryTower
from tfrecal.model.two_tower import TwoTower

__all__ = ["CandidateTower", "Pairwise", "QueryTower", "Rating", "Retrieval",
           "Search", "SequenceQueryTower", "TwoTower", "default_tasks"]
