"""LoRA: updates of low rank to frozen projections.

Hu et al. 2021, LoRA (arXiv 2106.09685), eq. 3: a kernel W is used as
W + (alpha / rank) B A, and only B and A are trained. The sum is made in each
step, because kernels are small beside the tokens of a batch; an export holds
the sums.
"""

from __future__ import annotations

import tensorflow as tf

from tfrecal import checks
from tfrecal.text.layers.transformer import LayerWeights

PROJECTIONS = ("query", "key", "value", "out", "inner", "outer")


class LoRA(tf.Module):
    """The updates of all layers of a transformer.

    Args:
        layers: the weights of each distinct layer, whose shapes are used.
        rank: the rank of an update.
        alpha: scales the updates by alpha / rank.
        projections: the kernels that get an update, of `PROJECTIONS`.
        seed: seed of the first weights.

    Attributes:
        weights: the variables, two for each kernel.
    """

    def __init__(self, layers: list[LayerWeights], rank: int, alpha: float,
                 projections: tuple[str, ...], seed: int = 0):
        super().__init__(name="lora")
        self._scale = alpha / rank
        self._pairs = []
        for number, layer in enumerate(layers):
            pairs = {}
            for name in projections:
                rows, columns = getattr(layer, name)[0].shape
                place = number * len(PROJECTIONS) + PROJECTIONS.index(name)
                # An update is zero at first: B A with random A and B = 0.
                down = tf.random.stateless_normal(
                    [rows, rank], [seed, place], stddev=rows ** -0.5)
                pairs[name] = (
                    tf.Variable(down, name=f"layer{number}_{name}_a"),
                    tf.Variable(tf.zeros([rank, columns]),
                                name=f"layer{number}_{name}_b"))
            self._pairs.append(pairs)

    @property
    def weights(self) -> list[tf.Variable]:
        return [weight for pairs in self._pairs
                for pair in pairs.values() for weight in pair]

    def adapt(self, weights: LayerWeights, number: int) -> LayerWeights:
        """Adds its updates to the weights of distinct layer `number`."""
        return weights._replace(**{
            name: (getattr(weights, name)[0]
                   + self._scale * tf.matmul(down, up),
                   getattr(weights, name)[1])
            for name, (down, up) in self._pairs[number].items()})


def check(rank, alpha, projections) -> None:
    """Raises a TypeError or ValueError for options that LoRA cannot have."""
    checks.whole(1, rank=rank, cure="4 to 16 are usual.")
    checks.positive(alpha=alpha, cure="Once or twice the rank is usual.")
    checks.finite(alpha=alpha)
    wrong = [name for name in projections if name not in PROJECTIONS]
    if wrong or not projections or isinstance(projections, str):
        raise ValueError(
            f"`projections` must be some of {', '.join(PROJECTIONS)}. "
            f"Received: projections={projections!r}.")
