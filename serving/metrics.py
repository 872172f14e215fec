"""Prometheus metrics. Every label takes few values: routes, statuses and models, never what a client sent.

BentoML gives its workers a common folder for prometheus_client's multiprocess mode, in which their
metrics add up.
"""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

requests = Counter("tiffin_requests_total", "Requests answered, by route and status.", ["route", "status"])
request_seconds = Histogram(
    "tiffin_request_seconds", "Seconds from a request's arrival to its answer.", ["route"], buckets=LATENCY_BUCKETS
)
inference_seconds = Histogram(
    "tiffin_inference_seconds", "Seconds of one call of a model's session.", ["model"], buckets=LATENCY_BUCKETS
)
cache_lookups = Counter("tiffin_cache_lookups_total", "Items looked up in the prediction cache.", ["model", "outcome"])


def exposition() -> bytes:
    """The metrics of all workers in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
