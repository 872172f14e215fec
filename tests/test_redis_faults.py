"""A server answers as without Redis, whatever fault its Redis has while requests keep coming."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clocks import RECOVERY_SECONDS, START_SECONDS, wait_until
from tests.support.metrics import breaker_is_open, metric, redis_hits
from tests.support.redis_servers import RedisServer
from tests.support.rows import TUMOUR
from tests.support.servers import serving
from tests.support.tcp_servers import forwarding, replying, tcp_server

REQUESTS: list[tuple[str, dict[str, Any]]] = [
    *(("/breast_cancer/predict", TUMOUR | {"area_se": float(area)}) for area in range(10, 15)),
    *(("/sentiment/predict", {"text": [f"a film of {minutes} minutes"]}) for minutes in range(90, 95)),
]
# Without caches in memory, every request goes to Redis.
ENVIRONMENT = {
    "TIFFIN_MODELS": "breast_cancer,sentiment",
    "TIFFIN_WORKERS": "1",
    "TIFFIN_CACHE_MAX_BYTES": "0",
    "TIFFIN_RESPONSE_CACHE_MAX_BYTES": "0",
}
ANSWERS_IN_A_FAULT = 20
# Between requests: without it, they would keep two processors busy while a fault, or its end, is noticed after seconds.
PAUSE_SECONDS = 0.02


class Traffic:
    """Sequential requests from a thread until it is stopped; `faults` are the wrong responses."""

    def __init__(self, address: str) -> None:
        self.client = httpx.Client(base_url=address, verify=False, timeout=10)
        self.expected = computed(address)
        self.answered = 0
        self.faults: list[str] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def ask(self, path: str, body: dict[str, Any]) -> str:
        try:
            response = self.client.post(path, json=body)
        except httpx.HTTPError as error:
            return repr(error)
        return f"{response.status_code} {response.text}"

    def run(self) -> None:
        for request, expected in itertools.cycle(zip(REQUESTS, self.expected, strict=True)):
            if self.stopped.wait(PAUSE_SECONDS):
                return
            if (answer := self.ask(*request)) != expected:
                self.faults.append(f"{request}: {answer} instead of {expected}")
            self.answered += 1

    def go_on(self) -> None:
        """Wait for ANSWERS_IN_A_FAULT more responses."""
        enough = self.answered + ANSWERS_IN_A_FAULT
        wait_until(lambda: self.answered >= enough, 30)


@functools.cache
def computed(address: str) -> list[str]:
    """Return a server's responses to REQUESTS without any cache."""
    with httpx.Client(base_url=address, headers={"Cache-Control": "no-store"}, timeout=10) as client:
        responses = [client.post(path, json=body) for path, body in REQUESTS]
    assert all(response.status_code == 200 for response in responses)
    return [f"{response.status_code} {response.text}" for response in responses]


@contextlib.contextmanager
def traffic(address: str) -> Iterator[Traffic]:
    """Keep sending requests; assert in the end that every response was right."""
    made = Traffic(address)
    made.thread.start()
    try:
        yield made
    finally:
        made.stopped.set()
        made.thread.join(30)
        made.client.close()
    assert made.faults == []


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Yield a Redis that is not started yet."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def address(store: Path, redis: RedisServer) -> Iterator[str]:
    """Yield the address of a server that started without its Redis."""
    with serving(store, {"TIFFIN_REDIS_URL": redis.url, **ENVIRONMENT}) as address:
        yield address


@pytest.fixture
def healthy(address: str, redis: RedisServer) -> str:
    """Return the address of the server once it uses a fresh Redis."""
    redis.stop()
    redis.start()
    with traffic(address):
        assert_redis_is_used(address)
    return address


def assert_redis_is_used(address: str) -> None:
    """Wait, while requests come, until the server reads from Redis and its circuit breaker is closed."""
    before = redis_hits(address)
    wait_until(lambda: redis_hits(address) > before and not breaker_is_open(address), RECOVERY_SECONDS)


def assert_redis_is_passed_over(address: str, requests: Traffic) -> None:
    """Wait, while requests come, until the server bypasses Redis."""
    wait_until(lambda: breaker_is_open(address), START_SECONDS)
    requests.go_on()


def test_absent_when_the_server_starts(address: str, redis: RedisServer) -> None:
    with traffic(address) as requests:
        assert_redis_is_passed_over(address, requests)
        redis.start()
        assert_redis_is_used(address)


def test_killed_and_started_again(healthy: str, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        redis.stop()
        assert_redis_is_passed_over(healthy, requests)
        redis.start()
        assert_redis_is_used(healthy)


def test_restarted_at_once(healthy: str, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        for _ in range(3):
            redis.stop()
            redis.start()
            requests.go_on()
        assert_redis_is_used(healthy)


def test_frozen(healthy: str, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        redis.freeze()
        assert_redis_is_passed_over(healthy, requests)
        redis.thaw()
        assert_redis_is_used(healthy)


def test_slow(healthy: str, redis: RedisServer, tmp_path: Path) -> None:
    behind = RedisServer(tmp_path)
    behind.start()
    try:
        with traffic(healthy) as requests:
            redis.stop()
            with tcp_server(forwarding(behind.port, delay_seconds=0.2), redis.port):
                assert_redis_is_passed_over(healthy, requests)
            redis.start()
            assert_redis_is_used(healthy)
    finally:
        behind.stop()


def test_a_master_that_becomes_a_replica(healthy: str, redis: RedisServer, tmp_path: Path) -> None:
    servers = [RedisServer(tmp_path) for _ in range(2)]
    for server in servers:
        server.start()
    target = servers[0]
    try:
        with traffic(healthy):
            redis.stop()
            with tcp_server(lambda reader, writer: forwarding(target.port)(reader, writer), redis.port):
                wait_until(lambda: servers[0].execute("DBSIZE") > 0, RECOVERY_SECONDS)
                # The name now leads to the other server, but open connections stay.
                target = servers[1]
                servers[0].execute("REPLICAOF", "127.0.0.1", servers[1].port)
                wait_until(lambda: servers[1].execute("DBSIZE") > 0, RECOVERY_SECONDS)
                assert_redis_is_used(healthy)
            redis.start()
            assert_redis_is_used(healthy)
    finally:
        for server in servers:
            server.stop()


def test_full(healthy: str, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        redis.execute("DEL", *redis.execute("KEYS", "*")[:3])
        redis.execute("CONFIG", "SET", "maxmemory", 1)
        refused = metric(healthy, "tiffin_redis_errors_total", reason="refused")
        wait_until(lambda: metric(healthy, "tiffin_redis_errors_total", reason="refused") > refused, RECOVERY_SECONDS)
        requests.go_on()
        assert_redis_is_used(healthy)


def test_with_a_password_that_was_not_given(healthy: str, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        redis.stop()
        redis.start("--requirepass", "secret")
        assert_redis_is_passed_over(healthy, requests)
        redis.stop()
        redis.start()
        assert_redis_is_used(healthy)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", random.Random(0).randbytes(1_000), b""])
def test_in_its_place_what_is_no_redis(healthy: str, redis: RedisServer, reply: bytes) -> None:
    with traffic(healthy) as requests:
        redis.stop()
        with tcp_server(replying(reply), redis.port):
            assert_redis_is_passed_over(healthy, requests)
        redis.start()
        assert_redis_is_used(healthy)


def test_corrupt_values(healthy: str, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        for name in redis.execute("KEYS", "*"):
            redis.execute("SET", name, b"tfn1" + random.Random(0).randbytes(100))
        requests.go_on()
        assert_redis_is_used(healthy)


def test_another_server_finds_what_the_first_computed(healthy: str, store: Path, redis: RedisServer) -> None:
    with traffic(healthy) as requests:
        requests.go_on()
    with serving(store, {"TIFFIN_REDIS_URL": redis.url, **ENVIRONMENT}) as other:
        redis.execute("CONFIG", "SET", "maxmemory", 1)  # it cannot read back what it has written
        with traffic(other):
            assert_redis_is_used(other)
