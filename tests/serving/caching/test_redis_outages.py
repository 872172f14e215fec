"""The Redis tier when Redis fails, and when it recovers."""

from __future__ import annotations

import asyncio
import random
import time
from urllib.parse import quote

import numpy as np
import pytest

from loadtest.processes import free_port
from serving.caching.redis_tier import (
    RedisCache,
)
from tests.support.clocks import eventually
from tests.support.metrics import sample
from tests.support.redis_caches import (
    ONE_WAIT_SECONDS,
    OUTPUT,
    TIMEOUT_SECONDS,
    all_errors,
    cache_at,
    errors,
    kept,
)
from tests.support.redis_servers import RedisServer
from tests.support.tcp_servers import forwarding, replying, tcp_server

pytestmark = pytest.mark.anyio


async def test_a_full_redis_still_reads(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache, b"before")
    redis_server.execute("CONFIG", "SET", "maxmemory", 1)
    before = errors("refused")
    assert not await kept(cache, b"after")
    assert errors("refused") == before + 1
    assert list(await cache.get([b"before"])) == [b"before"]
    assert cache.redis.circuit_closed


async def test_a_redis_that_wants_a_password_is_passed_over_until_it_does_not(stopped_redis: RedisServer) -> None:
    stopped_redis.start("--requirepass", "secret")
    async with cache_at(stopped_redis.url) as cache:
        assert not await kept(cache)
        assert not cache.redis.circuit_closed
        stopped_redis.stop()
        stopped_redis.start()
        await eventually(lambda: kept(cache))


@pytest.mark.parametrize("password", ["secret", "a/b@c:d?e#f%g h"])
async def test_a_password_stands_in_the_url(stopped_redis: RedisServer, password: str) -> None:
    stopped_redis.start("--requirepass", password)
    async with cache_at(f"redis://:{quote(password, safe='')}@127.0.0.1:{stopped_redis.port}") as cache:
        assert await kept(cache)


GARBAGE = {
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "random": random.Random(0).randbytes(1_000),
    "ok": b"+OK\r\n",
    "number": b":1\r\n",
    "error": b"-ERR no\r\n",
    "null": b"$-1\r\n",
    "bad length": b"$-5\r\n",
    "map": b"%1\r\n+a\r\n+b\r\n",
    "list of another length": b"*3\r\n+a\r\n+b\r\n+c\r\n",
    "endless list": b"*1000000\r\n",
    "endless string": b"$500000000\r\n" + b"a" * 2**20,
    "deep list": b"*1\r\n" * 1_000,
    "silence": b"",
}


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_a_miss(reply: bytes) -> None:
    with tcp_server(replying(reply)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            assert not await kept(cache)
            assert not await kept(cache)


@pytest.mark.parametrize("reply", GARBAGE.values(), ids=GARBAGE)
async def test_a_server_of_garbage_is_not_asked_again_before_it_is_a_redis(
    stopped_redis: RedisServer, reply: bytes
) -> None:
    with tcp_server(replying(reply), stopped_redis.port):
        async with cache_at(stopped_redis.url) as cache:
            before = all_errors()
            assert not await kept(cache)
            assert not cache.redis.circuit_closed
            assert all_errors() > before


@pytest.mark.parametrize(
    ("name", "reason"), [("silence", "timeout"), ("http", "protocol"), ("error", "refused"), ("number", "protocol")]
)
async def test_faults_are_counted_by_reason(name: str, reason: str) -> None:
    with tcp_server(replying(GARBAGE[name])) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            before = errors(reason), all_errors()
            assert await cache.get([b"key"]) == {}
            assert (errors(reason), all_errors()) == (before[0] + 1, before[1] + 1)


async def test_an_absent_redis_is_counted_as_a_fault_of_the_connection() -> None:
    before = errors("connection")
    async with cache_at(f"redis://127.0.0.1:{free_port()}") as cache:
        assert await cache.get([b"key"]) == {}
    assert errors("connection") == before + 1


async def test_a_foreign_value_in_place_of_every_reply_is_a_miss() -> None:
    with tcp_server(replying(b"*1\r\n$3\r\nabc\r\n")) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            assert not await kept(cache)


async def test_a_redis_in_place_of_garbage_is_found(stopped_redis: RedisServer) -> None:
    async with cache_at(stopped_redis.url) as cache:
        with tcp_server(replying(GARBAGE["http"]), stopped_redis.port):
            assert not await kept(cache)
        stopped_redis.start()
        await eventually(lambda: kept(cache))


async def test_a_frozen_redis_costs_one_wait(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    redis_server.freeze()
    started = time.monotonic()
    found = await asyncio.gather(*(cache.get([b"key"]) for _ in range(100)))
    assert found == [{}] * 100
    assert time.monotonic() - started < ONE_WAIT_SECONDS
    assert not cache.redis.circuit_closed

    started = time.monotonic()
    for _ in range(1_000):
        assert not await kept(cache)
    assert time.monotonic() - started < ONE_WAIT_SECONDS


async def test_a_frozen_redis_is_found_again(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    redis_server.freeze()
    assert await cache.get([b"key"]) == {}
    assert sample("tiffin_redis_breaker_open") == 1
    redis_server.thaw()
    await eventually(lambda: cache.get([b"key"]))
    assert sample("tiffin_redis_breaker_open") == 0


@pytest.mark.parametrize("kind", ["redis_server", "cluster"])
async def test_late_replies_are_not_taken_for_those_to_other_keys(kind: str, request: pytest.FixtureRequest) -> None:
    server: RedisServer = request.getfixturevalue(kind)
    async with cache_at(server.url if kind == "redis_server" else f"cluster+{server.url}") as cache:
        await check_late_replies(server, cache)


async def check_late_replies(redis_server: RedisServer, cache: RedisCache) -> None:
    outputs = {b"%d" % i: np.full(3, i, dtype=np.float32) for i in range(20)}
    for key, output in outputs.items():
        assert await kept(cache, key, output)
    for _ in range(3):
        redis_server.freeze()
        assert await cache.get([b"1"]) == {}
        redis_server.thaw()
        cache.redis.circuit_closed = True  # before the probe closes the breaker
        for other, output in outputs.items():
            found = await cache.get([other])
            assert np.array_equal(found[other][0], output)


async def test_a_slow_redis_is_passed_over(redis_server: RedisServer) -> None:
    with tcp_server(forwarding(redis_server.port, 2 * TIMEOUT_SECONDS)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            assert not await kept(cache)
            assert not cache.redis.circuit_closed


async def test_a_restarted_redis_is_found_again(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    redis_server.stop()
    assert await cache.get([b"key"]) == {}
    assert not cache.redis.circuit_closed
    redis_server.start()
    await eventually(lambda: kept(cache))


async def test_a_redis_may_come_later(stopped_redis: RedisServer) -> None:
    async with cache_at(stopped_redis.url) as cache:
        assert not await kept(cache)
        stopped_redis.start()
        await eventually(lambda: kept(cache))


async def test_closing_does_not_wait_for_a_frozen_redis(redis_server: RedisServer) -> None:
    async with cache_at(redis_server.url) as cache:
        assert await kept(cache)
        redis_server.freeze()
        cache.put(b"other", OUTPUT)
        started = time.monotonic()
    assert time.monotonic() - started < ONE_WAIT_SECONDS
