"""How do texts become vectors?"""
from __future__ import annotations


def __getattr__(name: str):
    """Imports `TextEncoder` at first use: `options` need no TensorFlow."""
    if name == "TextEncoder":
        from tfrecal.text.encoder import TextEncoder
        return TextEncoder
    raise AttributeError(f"module 'tfrecal.text' has no attribute {name!r}")
