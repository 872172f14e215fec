"""Read Prometheus metrics of this process or of a server."""

from __future__ import annotations

import itertools

import httpx
from prometheus_client.parser import text_string_to_metric_families

from serving.telemetry.metrics import registry


def sample(name: str, **labels: str) -> float:
    """Return the value of a sample in this process, 0 when there is none."""
    return registry.get_sample_value(name, labels) or 0.0


def metric(address: str, name: str, **labels: str) -> float:
    """Return the sum of a server's samples of a metric with these labels."""
    # Tests poll it: certificates of authorities are not read, which takes 20 ms, and other metrics not parsed.
    lines = httpx.get(f"{address}/metrics", timeout=10, verify=False).text.splitlines()
    families = text_string_to_metric_families("\n".join(line for line in lines if line.startswith(name)))
    samples = itertools.chain.from_iterable(family.samples for family in families)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def redis_hits(address: str) -> float:
    """Return the number of hits in the Redis tier of a server."""
    return metric(address, "tiffin_cache_lookups_total", tier="redis", outcome="hit")


def breaker_is_open(address: str) -> bool:
    """Return whether a server's circuit breaker is open."""
    return metric(address, "tiffin_redis_breaker_open") == 1
