"""Prometheus metrics. Every label takes few values: routes, statuses and models, never what a client sent."""

from __future__ import annotations

import bentoml.metrics

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

requests = bentoml.metrics.Counter(
    "tiffin_requests_total", "Requests answered, by route and status.", ["route", "status"]
)
request_seconds = bentoml.metrics.Histogram(
    "tiffin_request_seconds", "Seconds from a request's arrival to its answer.", ["route"], buckets=LATENCY_BUCKETS
)
inference_seconds = bentoml.metrics.Histogram(
    "tiffin_inference_seconds", "Seconds of one call of a model's session.", ["model"], buckets=LATENCY_BUCKETS
)
cache_lookups = bentoml.metrics.Counter(
    "tiffin_cache_lookups_total", "Items looked up in the prediction cache.", ["model", "outcome"]
)
