"""How does a program ask a server? Needs neither TensorFlow nor a store."""
from __future__ import annotations

from tfrecal.serving.client.client import (
    TLS,
    Embeddings,
    Rankings,
    Recommendations,
    Recommender,
    Scores,
    ServingUnavailable,
    explain,
)

__all__ = ["TLS", "Embeddings", "Rankings", "Recommendations", "Recommender",
           "Scores", "ServingUnavailable", "explain"]
