"""Prometheus metrics. Every label takes few values: routes, statuses and models, never what a client sent.

The workers of a server share a folder (`serving/bento/start.py`) for prometheus_client's multiprocess mode, in which
their metrics add up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# Labels of the metrics of one version of a model.
MODEL = ["model", "version"]
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

requests = Counter(
    "tiffin_requests_total",
    "Requests answered, by route, status and cache outcome (hit, partial, miss, none).",
    ["route", "status", "cache"],
)
request_seconds = Histogram(
    "tiffin_request_seconds", "Seconds from a request's arrival to its answer.", ["route"], buckets=LATENCY_BUCKETS
)

inference_seconds = Histogram(
    "tiffin_inference_seconds",
    "Seconds of one call of a model's session.",
    MODEL,
    buckets=LATENCY_BUCKETS,
)
batch_items = Histogram(
    "tiffin_batch_items",
    "Items in one call of a model's session.",
    MODEL,
    buckets=(1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096),
)
queue_items = Gauge(
    "tiffin_queue_items", "Interactive items that wait for inference.", MODEL, multiprocess_mode="livesum"
)
queue_seconds = Histogram(
    "tiffin_queue_seconds",
    "Seconds for which the first item of a batch waited; batch work, which may wait for long, does not count.",
    MODEL,
    buckets=LATENCY_BUCKETS,
)
batch_work_items = Gauge(
    "tiffin_batch_work_items",
    "Items of batch work that wait until interactive work leaves them time.",
    MODEL,
    multiprocess_mode="livesum",
)
dropped_items = Counter(
    "tiffin_dropped_items_total",
    "Items that were not inferred, by reason: refused, abandoned by the client, or past their deadline (expired).",
    [*MODEL, "reason"],
)

cache_lookups = Counter(
    "tiffin_cache_lookups_total",
    "Lookups by cache (response or a model), tier (memory, redis) and outcome (hit, miss).",
    ["cache", "tier", "outcome"],
)
cache_bytes = Gauge("tiffin_cache_bytes", "Bytes that a cache in memory takes.", ["cache"], multiprocess_mode="livesum")
cache_evictions = Counter("tiffin_cache_evictions_total", "Entries that had to make room for others.", ["cache"])
redis_errors = Counter(
    "tiffin_redis_errors_total",
    "Faults of Redis: timeout, connection, protocol, refused commands, corrupt values; queue_full, unsupported outputs "
    "(not written).",
    ["reason"],
)
for reason in ("timeout", "connection", "protocol", "refused", "corrupt", "queue_full", "unsupported"):
    redis_errors.labels(reason)  # starts at 0: Prometheus does not see the first fault of a counter that begins at 1
redis_breaker_open = Gauge(
    "tiffin_redis_breaker_open", "1 while Redis is passed over because it did not answer.", multiprocess_mode="livemax"
)

model_info = Gauge(
    "tiffin_model_info", "1 for the version of each model.", ["model", "tag"], multiprocess_mode="livemax"
)


# Children by route, status and cache outcome: looking one up by its labels takes longer than counting.
counted: dict[tuple[str, int, str], Any] = {}
timed: dict[str, Any] = {}


def count_request(route: str, status: int, cache: str, seconds: float) -> None:
    """Count an answered request, and record the seconds that it took."""
    key = (route, status, cache)
    if key not in counted:
        counted[key] = requests.labels(route, str(status), cache)
        timed[route] = request_seconds.labels(route)
    counted[key].inc()
    timed[route].observe(seconds)


def worker_ids(files: str = "*.db") -> set[int]:
    """Return the process ids of workers with metric files in the shared folder, ended workers included."""
    folder = Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "/nonexistent"))
    return {int(file.stem.rpartition("_")[2]) for file in folder.glob(files)}


def forget_ended_workers() -> None:
    """Drop the gauges of workers that ended without doing so themselves."""
    for pid in worker_ids("gauge_live*_*.db"):
        if not psutil.pid_exists(pid):
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


class WorkerProcesses(Collector):
    """The metrics that prometheus_client has of a single process, summed over the workers."""

    def collect(self) -> Iterator[Metric]:
        """Yield memory of live workers, and CPU time of ended ones as well, since a counter must not fall."""
        parent = psutil.Process(os.getppid())
        ended = parent.cpu_times()
        memory_bytes, cpu_seconds = 0, ended.children_user + ended.children_system
        for pid in worker_ids():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.ppid() == parent.pid:  # else another process was given the id of a worker that ended
                    memory_bytes += process.memory_info().rss
                    cpu_seconds += sum(process.cpu_times()[:2])
        yield GaugeMetricFamily(
            "process_resident_memory_bytes", "Resident memory of all workers in bytes.", value=memory_bytes
        )
        yield CounterMetricFamily("process_cpu_seconds_total", "CPU time of all workers in seconds.", value=cpu_seconds)


def exposition() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(WorkerProcesses())
    return generate_latest(registry)
