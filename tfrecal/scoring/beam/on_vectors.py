"""OnVectors: what workers of a Beam job share; Beam is imported here."""
from __future__ import annotations

from tfrecal.scoring.beam.vectors import Vectors

try:
    import apache_beam as beam
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics import Metrics, MetricsFilter
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.utils.shared import Shared
except ImportError as error:
    raise ImportError(
        "Batch jobs need Apache Beam. Received: an environment without it "
        f"({error}). Install it: `pip install 'tfrecal[beam]'`.") from error

__all__ = ["FileSystems", "Metrics", "MetricsFilter", "OnVectors",
           "PipelineOptions", "beam"]


class OnVectors(beam.DoFn):
    """Reads vectors, all of one fingerprint."""

    def __init__(self, vectors):
        self.folder = vectors.folder
        self.fingerprint = vectors.fingerprint
        self._shared = Shared()

    def start_bundle(self):
        self.vectors = Vectors(
            self.folder, FileSystems.open, self.fingerprint)

    def items(self, columns):
        """Returns columns of the items, read once in each process."""
        return self._shared.acquire(
            lambda: _Table(self.vectors.items(columns)),
            self.fingerprint).columns


class _Table:
    """`Shared` needs an object that it can refer to weakly."""

    def __init__(self, columns):
        self.columns = columns
