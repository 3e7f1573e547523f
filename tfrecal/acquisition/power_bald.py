"""PowerBALD: BALD whose picks are drawn."""
from __future__ import annotations

from tfrecal.acquisition.bald import BALD


class PowerBALD(BALD):
    """`BALD`, drawn with chances proportional to a power of the utility.

    It is about as good as methods whose picks depend on each other, at the
    cost of a sort. `temperature` is the inverse of the paper's beta.

    Reference:
        Kirsch et al. 2021, "Stochastic Batch Acquisition", arXiv 2106.12059,
        section 3.
    """

    def __init__(self, batch: str = "power", **options):
        super().__init__(batch=batch, **options)
