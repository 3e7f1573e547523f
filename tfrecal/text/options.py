"""Allowed values of options of `TextEncoder`. It needs no TensorFlow."""
from __future__ import annotations

TUNINGS = ("frozen", "top_n", "lora", "bitfit", "full")
PRECISIONS = ("float32", "bfloat16")
