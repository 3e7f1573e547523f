"""How good are lists and predictions?"""
from __future__ import annotations

from tfrecal.metrics.lists import within_lists
from tfrecal.metrics.pointwise import (
    auc,
    log_loss,
    mae,
    mid_ranks,
    rmse,
    weighted_auc,
)
from tfrecal.metrics.ranking import (
    RankingResult,
    item_slices,
    pairs,
    ranking,
    ranking_from_scores,
    slices,
    t_interval,
)

__all__ = ["RankingResult", "auc", "item_slices", "log_loss", "mae",
           "mid_ranks", "pairs", "ranking", "ranking_from_scores", "rmse",
           "slices", "t_interval", "weighted_auc", "within_lists"]
