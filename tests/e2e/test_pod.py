"""The pod of server and Redis: it serves while parts of it end and come back."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from serving.settings import Settings
from tests.support import ROOT
from tests.support.clocks import wait_until
from tests.support.containers import READY_SECONDS, Container, Pod, engine
from tests.support.metrics import breaker_is_open, redis_hits
from tests.support.rows import TUMOUR
from tests.support.watched import known_answers

PATH = "/breast_cancer/predict"
CLIENTS = 4
REQUESTS = 200
RECOVERY_SECONDS = 120
GRACE_SECONDS = Settings.model_fields["shutdown_grace_seconds"].default


@pytest.fixture
def client(pod: Pod) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=pod.address, timeout=30) as client:
        yield client


class Stream:
    """Sends requests from threads, each over its own connections, until it is stopped; every item comes twice."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.numbers = itertools.count()
        self.answered = 0
        self.failures: list[str] = []
        # Requests without an answer: when they began, and why.
        self.disconnected: list[tuple[float, str]] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]

    def run(self) -> None:
        with httpx.Client(base_url=self.address, timeout=30) as client:
            while not self.stopped.is_set():
                body = TUMOUR | {"area_worst": 2019 + next(self.numbers) // 2 / 1000}
                started = time.monotonic()
                try:
                    response = client.post(PATH, json=body)
                except httpx.TransportError as error:
                    self.disconnected.append((started, repr(error)))
                    time.sleep(0.05)
                    continue
                if response.status_code != 200:
                    self.failures.append(response.text)
                self.answered += 1

    def wait_for_answers(self) -> None:
        """Wait until REQUESTS more are answered."""
        goal = self.answered + REQUESTS
        wait_until(lambda: self.answered >= goal, READY_SECONDS)


@contextlib.contextmanager
def streaming(address: str) -> Iterator[Stream]:
    """Start a stream of requests, and yield it once some are answered."""
    stream = Stream(address)
    for thread in stream.threads:
        thread.start()
    try:
        stream.wait_for_answers()
        yield stream
    finally:
        stream.stopped.set()
        for thread in stream.threads:
            thread.join(READY_SECONDS)


def health(container: Container) -> int:
    """Return the exit code of the liveness probe."""
    return engine("healthcheck", "run", container.name, check=False).returncode


def test_every_model_answers(client: httpx.Client) -> None:
    assert len(known_answers(client)) == 9


def test_every_route_answers_its_own_example(pod: Pod) -> None:
    command = [sys.executable, "k8s/smoke.py", pod.address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_containers_are_alive(pod: Pod) -> None:
    assert [health(pod.server), health(pod.redis)] == [0, 0]


def test_both_containers_may_do_little(pod: Pod) -> None:
    for container in (pod.server, pod.redis):
        status = dict(line.split(":\t", 1) for line in container.run("cat", "/proc/1/status").stdout.splitlines())
        assert set(status["Uid"].split()) == {"1034"}
        assert int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert container.inspect("{{.HostConfig.ReadonlyRootfs}}") == "true"
        assert int(container.inspect("{{.HostConfig.Memory}}")) > 0
        assert int(container.inspect("{{.HostConfig.CpuQuota}}")) > 0


def test_what_a_server_before_computed_comes_from_redis(pod: Pod, client: httpx.Client) -> None:
    body = TUMOUR | {"texture_worst": 17.34}
    assert client.post(PATH, json=body).headers["x-cache"] == "miss"
    pod.restart_server()
    before = redis_hits(pod.address)
    response = client.post(PATH, json=body)
    assert (response.status_code, response.headers["x-cache"]) == (200, "hit")
    assert redis_hits(pod.address) == before + 1


def test_no_request_fails_while_redis_is_killed_and_comes_back(pod: Pod) -> None:
    with streaming(pod.address) as stream:
        engine("kill", pod.redis.name)
        wait_until(lambda: breaker_is_open(pod.address), RECOVERY_SECONDS)
        stream.wait_for_answers()
        pod.start_redis()
        wait_until(lambda: not breaker_is_open(pod.address), RECOVERY_SECONDS)
        stream.wait_for_answers()
    assert (stream.failures, stream.disconnected) == ([], [])


def test_a_redis_that_ends_is_started_again(pod: Pod) -> None:
    pod.redis.run("redis-cli", "shutdown", check=False)
    wait_until(lambda: pod.redis.run("redis-cli", "ping", check=False).stdout == "PONG\n", RECOVERY_SECONDS)


def test_no_request_fails_before_a_server_that_ends_is_gone(pod: Pod) -> None:
    with streaming(pod.address) as stream:
        ended = time.monotonic()
        engine("kill", "--signal", "TERM", pod.server.name)
        wait_until(lambda: not pod.server.is_ready(), READY_SECONDS)
        stream.wait_for_answers()
        # Podman restarts it, and it answers again.
        wait_until(pod.server.is_ready, READY_SECONDS)
        stream.wait_for_answers()
    assert stream.failures == []
    # Later, connections are refused: by then nobody who reads its readiness sends it a request.
    assert [fault for fault in stream.disconnected if fault[0] < ended + GRACE_SECONDS] == []


def test_a_server_that_hangs_is_not_alive(pod: Pod) -> None:
    pod.server.run("sh", "-c", "kill -STOP -1")  # all but the first process
    try:
        assert health(pod.server) == 1
    finally:
        pod.server.run("sh", "-c", "kill -CONT -1")
    assert health(pod.server) == 0
