"""Metrics, of this process or of a server."""

from __future__ import annotations

import itertools

import httpx
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families


def sample(name: str, **labels: str) -> float:
    """A metric of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def metric(address: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    families = text_string_to_metric_families(httpx.get(f"{address}/metrics", timeout=10).text)
    samples = itertools.chain.from_iterable(family.samples for family in families)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def redis_hits(address: str) -> float:
    """How many lookups of a server Redis has answered."""
    return metric(address, "tiffin_cache_lookups_total", tier="redis", outcome="hit")


def passed_over(address: str) -> bool:
    """Whether a server asks no Redis for now."""
    return metric(address, "tiffin_redis_breaker_open") == 1
