"""A model that was not trained and yet tells pairs apart."""
from __future__ import annotations

import numpy as np

from tfrecal.model.two_tower import TwoTower


def make_model(shop, **options):
    """Random weights that make the shop's predictions differ."""
    model = TwoTower.from_interactions(
        shop, embedding_dim=6, mean=3.0, **options)
    model.compile()
    rng = np.random.default_rng(0)
    for tower in (model.query_tower, model.candidate_tower):
        tower.warm.assign(np.r_[0, np.ones(len(tower.ids))])
        for table in (tower.id_table, tower.bias_table):
            table.assign(rng.normal(0, 0.5, table.shape))
    return model
