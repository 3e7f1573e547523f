"""Counts and latencies of requests, as Prometheus reads them."""
from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram

_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
_BUCKETS = [10 * 1.8 ** i for i in range(33)]
# A client chooses the model name of a request, and each new name costs
# memory for as long as the server runs.
_MAX_SERIES = 1000

# The real server has no `_created` samples.
prometheus_client.disable_created_metrics()


class Monitor:
    """Counts requests under the metric names of TensorFlow Serving.

    One object is shared by the gRPC and the REST side; all methods can be
    called from any thread.

    Example:
        >>> monitor = Monitor()
        >>> monitor.request("shop", "Predict", "GRPC", "OK", 0.0012)
        >>> print(monitor.text())
    """

    def __init__(self):
        self._registry = CollectorRegistry()
        # A `Counter` would be written with `_total` after its name.
        self._count = Gauge(_COUNT, "Requests.", ["model_name", "status"],
                            registry=self._registry)
        self._latency = Histogram(
            _LATENCY, "Microseconds of successful requests.",
            ["model_name", "API", "entrypoint"], buckets=_BUCKETS,
            registry=self._registry)
        self._children = {}

    def request(self, model_name: str, api: str, entrypoint: str,
                status_name: str, seconds: float) -> None:
        """Counts one request; the latency only if it succeeded.

        Args:
            model_name: the request's model, "" where it names none.
            api: `Predict`, `Classify`, ..., over REST `predict`, ...
            entrypoint: `GRPC` or `REST`.
            status_name: the name of the status code, `OK` for success.
            seconds: time from the request's arrival to its answer.
        """
        self._child(self._count, model_name, status_name).inc()
        if status_name == "OK":
            self._child(self._latency, model_name, api,
                        entrypoint).observe(seconds * 1e6)

    def text(self) -> str:
        """Returns all metrics in Prometheus' text format."""
        text = prometheus_client.generate_latest(self._registry).decode()
        return text.replace(f"# TYPE {_COUNT} gauge",
                            f"# TYPE {_COUNT} counter")

    def _child(self, metric, model_name: str, *labels: str):
        key = (metric, model_name, *labels)
        child = self._children.get(key)
        if child is None:
            if len(self._children) >= _MAX_SERIES:
                return metric.labels("", *labels)
            child = self._children[key] = metric.labels(model_name, *labels)
        return child
