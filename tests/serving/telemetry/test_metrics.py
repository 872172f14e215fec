"""The metrics of a server with several workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

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
        assert httpx.post(f"{two_workers.address}/breast_cancer/predict", json=TUMOUR).status_code == 200
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
