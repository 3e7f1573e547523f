"""Refuses Keras' mixed precision, which these layers cannot follow."""
from __future__ import annotations


def check_policy(layer) -> None:
    """Raises a ValueError where a layer would not compute in float32."""
    if layer.compute_dtype != "float32":
        raise ValueError(
            "Layers of tfrecal compute in float32. Received: "
            f"{layer.name!r} under a Keras policy that computes in "
            f"{layer.compute_dtype}. Set the policy back to \"float32\"; "
            "`TextEncoder(precision=\"bfloat16\")` is the faster encoder.")
