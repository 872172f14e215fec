"""Prometheus metrics. Every label takes few values: routes, statuses and models, never what a client sent.

Several workers of a server share a folder (`serving/bento/start.py`) for prometheus_client's multiprocess mode, in
which their metrics add up. A single one has them in memory, where counting takes a third of the time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # multiprocess mode has none of these series
registry = CollectorRegistry()
# The variable in which prometheus_client finds the folder of multiprocess mode, and the one that all workers of
# `bentoml serve` have (`serving/bento/start.py`), a single one, too.
MULTIPROCESS, WORKER = "PROMETHEUS_MULTIPROC_DIR", "TIFFIN_METRICS_DIR"
# Labels of the metrics of one version of a model.
MODEL = ["model", "version"]
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

requests = Counter(
    "tiffin_requests_total",
    "Requests answered, by protocol (rest, v2, grpc), route, status as HTTP has it, cache outcome (hit, partial, miss, "
    "none), model and version; without a model those to the server itself, such as probes.",
    ["protocol", "route", "status", "cache", *MODEL],
    registry=registry,
)
request_seconds = Histogram(
    "tiffin_request_seconds",
    "Seconds from a request's arrival to its answer, by protocol, route, model, version and outcome (success, fail).",
    ["protocol", "route", *MODEL, "outcome"],
    buckets=LATENCY_BUCKETS,
    registry=registry,
)

inference_seconds = Histogram(
    "tiffin_inference_seconds",
    "Seconds of one call of a model's session.",
    MODEL,
    buckets=LATENCY_BUCKETS,
    registry=registry,
)
batch_items = Histogram(
    "tiffin_batch_items",
    "Items in one call of a model's session.",
    MODEL,
    buckets=(1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096),
    registry=registry,
)
last_inference = Gauge(
    "tiffin_last_inference_timestamp_seconds",
    "When a model's session was last called, in seconds since 1970.",
    MODEL,
    multiprocess_mode="max",
    registry=registry,
)
queue_items = Gauge(
    "tiffin_queue_items",
    "Interactive items that wait for inference.",
    MODEL,
    multiprocess_mode="livesum",
    registry=registry,
)
queue_seconds = Histogram(
    "tiffin_queue_seconds",
    "Seconds for which the first item of a batch waited; batch work, which may wait for long, does not count.",
    MODEL,
    buckets=LATENCY_BUCKETS,
    registry=registry,
)
batch_work_items = Gauge(
    "tiffin_batch_work_items",
    "Items of batch work that wait until interactive work leaves them time.",
    MODEL,
    multiprocess_mode="livesum",
    registry=registry,
)
dropped_items = Counter(
    "tiffin_dropped_items_total",
    "Items that were not inferred, by reason: refused, abandoned by the client, or past their deadline (expired).",
    [*MODEL, "reason"],
    registry=registry,
)

explanation_evaluations = Counter(
    "tiffin_explanation_evaluations_total",
    "Items that were computed for explanations, beside those that were explained.",
    MODEL,
    registry=registry,
)
cache_lookups = Counter(
    "tiffin_cache_lookups_total",
    "Lookups by cache (response or a model), version of the model, tier (memory, redis) and outcome (hit, miss).",
    ["cache", "version", "tier", "outcome"],
    registry=registry,
)
cache_bytes = Gauge(
    "tiffin_cache_bytes",
    "Bytes that a cache in memory takes.",
    ["cache"],
    multiprocess_mode="livesum",
    registry=registry,
)
cache_evictions = Counter(
    "tiffin_cache_evictions_total", "Entries that had to make room for others.", ["cache"], registry=registry
)
redis_errors = Counter(
    "tiffin_redis_errors_total",
    "Faults of Redis: timeout, connection, protocol, refused commands, corrupt values; queue_full, unsupported outputs "
    "(not written).",
    ["reason"],
    registry=registry,
)
for reason in ("timeout", "connection", "protocol", "refused", "corrupt", "queue_full", "unsupported"):
    redis_errors.labels(reason)  # starts at 0: Prometheus does not see the first fault of a counter that begins at 1
redis_bytes = Counter(
    "tiffin_redis_bytes_total",
    "Bytes of the prediction cache's keys and values, by direction: sent to Redis or received from it.",
    ["direction"],
    registry=registry,
)
redis_bytes_sent = redis_bytes.labels("sent")
redis_bytes_received = redis_bytes.labels("received")
redis_breaker_open = Gauge(
    "tiffin_redis_breaker_open",
    "1 while Redis is passed over because it did not answer.",
    multiprocess_mode="livemax",
    registry=registry,
)

model_info = Gauge(
    "tiffin_model_info",
    "1 for each loaded version of a model, 0 for one that was unloaded.",
    ["model", "tag"],
    multiprocess_mode="livemax",
    registry=registry,
)

jobs = Gauge(
    "tiffin_jobs",
    "Unfinished background jobs, by state (queued, running); the same in every process that knows the job store.",
    [*MODEL, "state"],
    multiprocess_mode="mostrecent",
    registry=registry,
)
job_oldest_seconds = Gauge(
    "tiffin_job_oldest_seconds",
    "Age of the oldest unfinished job in seconds; 0 where there is none.",
    MODEL,
    multiprocess_mode="mostrecent",
    registry=registry,
)
job_rows = Counter("tiffin_job_rows_total", "Rows of background jobs that were answered.", MODEL, registry=registry)
job_chunks = Counter(
    "tiffin_job_chunks_total",
    "Chunks of background jobs, by outcome: done, failed (each attempt), lost (their lease, or the job).",
    [*MODEL, "outcome"],
    registry=registry,
)
jobs_finished = Counter(
    "tiffin_jobs_finished_total",
    "Background jobs that ended, by state (completed, failed, canceled).",
    [*MODEL, "state"],
    registry=registry,
)
job_store_errors = Counter(
    "tiffin_job_store_errors_total", "Faults of the job store's database or files.", registry=registry
)


class Counted(NamedTuple):
    """What a request is counted by; routes belong to one model and one protocol each."""

    protocol: str
    route: str
    model: str
    version: str


# Children by what is counted, status and cache outcome: looking one up by its labels takes longer than counting.
children: dict[tuple[Counted, int, str], tuple[Any, Any]] = {}


def count_request(request: Counted, status: int, cache: str, seconds: float) -> None:
    """Count an answered request, and record the seconds that it took."""
    key = (request, status, cache)
    if key not in children:
        protocol, route, model, version = request
        outcome = "success" if status < HTTPStatus.BAD_REQUEST else "fail"
        children[key] = (
            requests.labels(protocol, route, str(status), cache, model, version),
            request_seconds.labels(protocol, route, model, version, outcome),
        )
    counter, histogram = children[key]
    counter.inc()
    histogram.observe(seconds)


def start_job_counters(model: str, version: str) -> None:
    """Let the counters of jobs of a version of a model begin at 0."""
    job_rows.labels(model, version)
    for outcome in ("done", "failed", "lost"):
        job_chunks.labels(model, version, outcome)
    for state in ("completed", "failed", "canceled"):
        jobs_finished.labels(model, version, state)


def worker_ids(files: str = "*.db") -> set[int]:
    """Return the process ids of workers with metric files in the shared folder, ended workers included.

    Without such a folder this process is the only worker.
    """
    folder = os.environ.get(MULTIPROCESS)
    if folder is None:
        return {os.getpid()}
    return {int(file.stem.rpartition("_")[2]) for file in Path(folder).glob(files)}


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


def collectors() -> CollectorRegistry:
    """Return the collectors of the metrics of all workers."""
    found = CollectorRegistry()
    if MULTIPROCESS in os.environ:
        MultiProcessCollector(found)  # type: ignore[no-untyped-call]
    else:
        found.register(registry)
    if MULTIPROCESS in os.environ or WORKER in os.environ:
        found.register(WorkerProcesses())
    return found


def exposition() -> bytes:
    """Return the metrics of all workers in Prometheus' text format."""
    return generate_latest(collectors())


class Samples:
    """The present values of all metrics."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self.by_name: dict[str, list[tuple[dict[str, str], float]]] = {}
        for metric in found:
            for sample in metric.samples:
                self.by_name.setdefault(sample.name, []).append((sample.labels, sample.value))

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels, whatever their others are."""
        wanted = labels.items()
        return sum(value for given, value in self.by_name.get(name, ()) if wanted <= given.items())


def samples() -> Samples:
    """Return the present values of all metrics, of all workers."""
    return Samples(collectors().collect())
