"""The metrics of a server with several workers, and that one worker has the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import ROOT
from tests.support.clocks import wait_until
from tests.support.metrics import metric
from tests.support.rows import TUMOUR
from tests.support.servers import START_SECONDS, Server, started_server

ENVIRONMENT = {"TIFFIN_MODELS": "breast_cancer", "TIFFIN_WORKERS": "2"}


@pytest.fixture(scope="module")
def two_workers(store: Path) -> Iterator[Server]:
    """Start a server; yield it once two workers are ready."""
    with started_server(store, ENVIRONMENT) as server:
        wait_until(lambda: len(workers(server)) == 2, START_SECONDS)
        yield server


def workers(server: Server) -> list[psutil.Process]:
    """Return the live workers that have written metrics."""
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if any(server.log.parent.glob(f"**/*_{child.pid}.db"))]


def resident_bytes(server: Server) -> int:
    return sum(worker.memory_info().rss for worker in workers(server))


def cpu_seconds(*processes: psutil.Process) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def test_requests_add_up_over_workers(two_workers: Server) -> None:
    def requests() -> float:
        return metric(two_workers.address, "tiffin_requests_total", route="/breast_cancer/predict")

    before = requests()
    for _ in range(40):  # each on a new connection, so that both workers get some
        response = httpx.post(f"{two_workers.address}/breast_cancer/predict", json=TUMOUR, verify=False)
        assert response.status_code == 200
    for _ in range(10):
        assert requests() == before + 40


def test_memory_is_that_of_all_workers(two_workers: Server) -> None:
    before = resident_bytes(two_workers)
    told = metric(two_workers.address, "process_resident_memory_bytes")
    assert before * 0.95 <= told <= resident_bytes(two_workers) * 1.05


def test_cpu_time_is_that_of_all_workers_also_of_one_that_ended(two_workers: Server) -> None:
    first = workers(two_workers)[0]
    # Only Linux reports the CPU time of children that have ended.
    ended = cpu_seconds(first) if sys.platform == "linux" else 0.0
    first.kill()
    wait_until(lambda: not first.is_running() and len(workers(two_workers)) == 2, START_SECONDS)
    before = ended + cpu_seconds(*workers(two_workers))
    told = metric(two_workers.address, "process_cpu_seconds_total")
    assert before <= told <= ended + cpu_seconds(*workers(two_workers)) + 0.5


COUNTING = """
from serving.telemetry import metrics

metrics.count_request(metrics.Counted("rest", "/a/predict", "a", "1"), 200, "miss", 0.5)
metrics.cache_bytes.labels("response").set(5)
metrics.last_inference.labels("a", "1").set_to_current_time()
print(metrics.exposition().decode())
"""


def test_one_worker_has_the_series_of_several(tmp_path: Path) -> None:
    def series(**environment: str) -> dict[str, set[tuple[str, str]]]:
        text = subprocess.run(
            [sys.executable, "-c", COUNTING],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        families = list(text_string_to_metric_families(text))
        return {
            family.type + family.name: {(sample.name, str(sample.labels)) for sample in family.samples}
            for family in families
            if family.samples
        }

    assert series(TIFFIN_METRICS_DIR="") == series(PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
