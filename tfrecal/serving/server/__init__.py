"""How does the local model server answer, as TensorFlow Serving does?"""
from __future__ import annotations

from tfrecal.serving.server.server import Server, options_of

__all__ = ["Server", "options_of"]
