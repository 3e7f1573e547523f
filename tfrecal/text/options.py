"""Names that options of `TextEncoder` may have. Needs no TensorFlow."""
from __future__ import annotations

TUNINGS = ("frozen", "top_n", "lora", "bitfit", "full")
PRECISIONS = ("float32", "bfloat16")
