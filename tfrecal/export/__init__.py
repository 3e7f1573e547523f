"""How does a trained model become a folder that servers load?"""
from __future__ import annotations

from tfrecal.export.export_model import export_model
from tfrecal.export.manifest import read_manifest

__all__ = ["export_model", "read_manifest"]
