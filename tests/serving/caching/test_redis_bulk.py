"""The Redis tier under bulk requests: pieces, byte limits, bounded queues, and unforeseen errors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from models.model import Array
from serving.caching.redis_tier import (
    COMMAND_BYTES,
    READ_KEYS,
    WRITE_QUEUE,
    WRITE_QUEUE_BYTES,
    RedisCache,
    encode,
)
from tests.support.redis_caches import (
    OUTPUT,
    PREFIX,
    TIMEOUT_SECONDS,
    all_errors,
    cache_at,
    errors,
    kept,
)
from tests.support.redis_servers import RedisServer
from tests.support.tcp_servers import Handler, forwarding, tcp_server

pytestmark = pytest.mark.anyio


def fill(server: RedisServer, keys: Sequence[bytes], output: Array = OUTPUT) -> None:
    """Write an output under each key directly into Redis."""
    value = encode(output, time.time())
    for i in range(0, len(keys), 1_000):
        server.execute("MSET", *(part for key in keys[i : i + 1_000] for part in (PREFIX.encode() + key, value)))


async def test_many_keys_are_read_in_pieces(redis_server: RedisServer, cache: RedisCache) -> None:
    keys = [b"%d" % i for i in range(10 * READ_KEYS)]
    fill(redis_server, keys)
    assert (await cache.get(keys)).keys() == set(keys)
    assert redis_server.execute("INFO", "commandstats")["cmdstat_mget"]["calls"] == 10


async def test_large_values_are_read_in_pieces(redis_server: RedisServer, cache: RedisCache) -> None:
    keys = [b"%d" % i for i in range(8)]
    fill(redis_server, keys, np.zeros(COMMAND_BYTES // 2, np.uint8))
    assert (await cache.get(keys)).keys() == set(keys)  # the cache does not know yet how large the values are
    before = redis_server.execute("INFO", "commandstats")["cmdstat_mget"]["calls"]
    assert (await cache.get(keys)).keys() == set(keys)
    assert redis_server.execute("INFO", "commandstats")["cmdstat_mget"]["calls"] >= before + len(keys)


async def test_who_asks_for_much_gets_what_comes_in_time_and_delays_nobody(redis_server: RedisServer) -> None:
    keys = [b"%d" % i for i in range(100 * READ_KEYS)]
    fill(redis_server, keys)
    with tcp_server(forwarding(redis_server.port, TIMEOUT_SECONDS / 20)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            assert await kept(cache)  # opens the connection
            before = all_errors()
            much = asyncio.create_task(cache.get(keys))
            for _ in range(3):
                assert list(await cache.get([b"key"])) == [b"key"]
            assert 0 < len(await much) < len(keys)
            assert cache.redis.circuit_closed
            assert all_errors() == before


async def test_a_busy_event_loop_is_no_fault_of_redis(redis_server: RedisServer) -> None:
    with tcp_server(forwarding(redis_server.port, TIMEOUT_SECONDS / 20)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            assert await kept(cache)
            cache.redis.timeout_seconds = TIMEOUT_SECONDS / 5
            lookup = asyncio.create_task(cache.get([b"key"]))
            for _ in range(20):
                await asyncio.sleep(0)  # let the task send its command
            time.sleep(TIMEOUT_SECONDS / 2)  # block the event loop while the reply arrives
            assert list(await lookup) == [b"key"]
            assert cache.redis.circuit_closed


async def test_the_write_queue_is_bounded_in_bytes(redis_server: RedisServer, cache: RedisCache) -> None:
    large = np.zeros(COMMAND_BYTES // 2, np.uint8)
    before = errors("queue_full")
    for i in range(2 * WRITE_QUEUE_BYTES // large.nbytes):
        cache.put(b"%d" % i, large)
    refused = errors("queue_full") - before
    await cache.close()
    assert refused > 0
    assert redis_server.execute("DBSIZE") * large.nbytes <= WRITE_QUEUE_BYTES
    assert redis_server.execute("DBSIZE") + refused == 2 * WRITE_QUEUE_BYTES // large.nbytes


async def test_the_write_queue_is_bounded_in_items(redis_server: RedisServer, cache: RedisCache) -> None:
    before = errors("queue_full")
    for i in range(WRITE_QUEUE + 10):
        cache.put(b"%d" % i, OUTPUT)
    assert errors("queue_full") == before + 10


async def test_what_is_put_again_while_it_waits_takes_no_room(redis_server: RedisServer, cache: RedisCache) -> None:
    large = np.zeros(COMMAND_BYTES // 2, np.uint8)
    before = errors("queue_full")
    for _ in range(2 * WRITE_QUEUE_BYTES // large.nbytes):
        cache.put(b"key", large)
    assert errors("queue_full") == before


def swallowing(port: int, command: bytes, swallowed: list[int]) -> Handler:
    """Return a handler that proxies to `port`, on each connection until `command`; note what it drops from then on."""

    async def up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = False
        with contextlib.closing(writer):
            while chunk := await reader.read(2**16):
                silent = silent or command in chunk
                if silent:
                    swallowed.append(len(chunk))
                else:
                    writer.write(chunk)

    async def down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while chunk := await reader.read(2**16):
                writer.write(chunk)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(up(reader, to_writer), down(to_reader, writer), return_exceptions=True)

    return handle


async def test_writes_that_nobody_answers_do_not_stop_reads(redis_server: RedisServer) -> None:
    fill(redis_server, [b"key"])
    swallowed: list[int] = []
    with tcp_server(swallowing(redis_server.port, b"\r\nSET\r\n", swallowed)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            before = errors("timeout")
            for i in range(20):
                cache.put(b"%d" % i, np.zeros(COMMAND_BYTES // 4, np.uint8))
            assert cache.writer is not None
            while not cache.writer.done():
                assert list(await cache.get([b"key"])) == [b"key"]
            assert errors("timeout") == before + 1
            assert cache.redis.circuit_closed
            assert not cache.unwritten
    assert COMMAND_BYTES / 2 < sum(swallowed) < 1.1 * COMMAND_BYTES


# Errors in our own code.


async def test_an_error_while_reading_is_a_miss_for_all_who_wait(
    cache: RedisCache, caplog: pytest.LogCaptureFixture
) -> None:
    no_bytes: Any = ["text"]
    assert list(await asyncio.gather(cache.get(no_bytes), cache.get([b"key"]))) == [{}, {}]
    assert "reading from Redis failed" in caplog.text
    assert cache.redis.circuit_closed
    assert await kept(cache)


async def test_an_error_while_writing_ends_the_batch_alone(cache: RedisCache, caplog: pytest.LogCaptureFixture) -> None:
    known: Any = cache.ttl_milliseconds
    cache.ttl_milliseconds = "no number"  # type: ignore[assignment]
    assert not await kept(cache)
    await cache.close()
    assert "writing to Redis failed" in caplog.text
    cache.ttl_milliseconds = known
    assert await kept(cache)
