"""How are rows read, cleaned, normalised and split?"""
from __future__ import annotations

from tfrecal.data.interactions import Interactions
from tfrecal.data.templates import Template, default_template

__all__ = ["Interactions", "Template", "default_template"]
