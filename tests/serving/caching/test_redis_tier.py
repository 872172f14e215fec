"""The Redis tier of the prediction cache and its client, with real Redis processes and their faults."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

import models
from models.model import Array
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.caching.redis_tier import (
    COMMAND_BYTES,
    WRITE_BATCH,
    RedisCache,
    encode,
)
from serving.inference.context import own_context
from serving.inference.predictor import BLOCK_ROWS, Predictor
from serving.inference.registry import ModelId
from tests.support.clocks import eventually
from tests.support.metrics import sample
from tests.support.redis_caches import (
    OUTPUT,
    PREFIX,
    cache_at,
    errors,
    kept,
)
from tests.support.redis_servers import RedisServer
from tests.support.stores import newest

pytestmark = pytest.mark.anyio


async def test_what_one_server_puts_another_gets(redis_server: RedisServer, cache: RedisCache) -> None:
    async with cache_at(redis_server.url) as other:
        assert await kept(cache)
        found = await other.get([b"key", b"other"])
    assert list(found) == [b"key"]
    assert np.array_equal(found[b"key"][0], OUTPUT)


async def test_bytes_to_and_from_redis_are_counted(redis_server: RedisServer, cache: RedisCache) -> None:
    def counted(direction: str) -> float:
        return sample("tiffin_redis_bytes_total", direction=direction)

    sent, received = counted("sent"), counted("received")
    name, value = len(f"{PREFIX}key"), len(encode(OUTPUT, 0))
    assert await kept(cache)
    assert counted("sent") - sent == name + value + name  # written, and asked for again
    assert counted("received") - received == value
    await cache.get([b"absent"])
    assert counted("received") - received == value


async def test_another_prefix_is_another_cache(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    async with cache_at(redis_server.url, prefix="other:") as other:
        assert await other.get([b"key"]) == {}


async def test_an_entry_has_a_time_to_live_in_redis(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    assert 0 < redis_server.execute("PTTL", PREFIX + "key") <= 60_000


async def test_an_entry_is_gone_after_its_time_to_live(redis_server: RedisServer) -> None:
    async with cache_at(redis_server.url, ttl_seconds=0.2) as cache:
        cache.put(b"key", OUTPUT)

        async def gone() -> bool:
            return not await cache.get([b"key"])

        await eventually(gone)


async def test_the_age_of_an_output_comes_back(redis_server: RedisServer, cache: RedisCache) -> None:
    redis_server.execute("SET", PREFIX + "key", encode(OUTPUT, time.time() - 100))
    assert (await cache.get([b"key"]))[b"key"][1] == pytest.approx(100, abs=5)


async def test_no_age_is_negative(redis_server: RedisServer, cache: RedisCache) -> None:
    redis_server.execute("SET", PREFIX + "key", encode(OUTPUT, time.time() + 100))
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
    assert redis_server.execute("INFO", "commandstats")["cmdstat_mget"]["calls"] < 10


async def test_more_than_a_batch_is_written(redis_server: RedisServer, cache: RedisCache) -> None:
    for i in range(3 * WRITE_BATCH):
        cache.put(b"%d" % i, OUTPUT)
    await cache.close()
    assert redis_server.execute("DBSIZE") == 3 * WRITE_BATCH


async def test_a_corrupt_value_is_a_miss_and_the_others_are_found(redis_server: RedisServer, cache: RedisCache) -> None:
    assert await kept(cache)
    redis_server.execute("SET", PREFIX + "corrupt", encode(OUTPUT, 1234.5)[:-1])
    redis_server.execute("LPUSH", PREFIX + "list", "foreign")
    before = errors("corrupt")
    assert list(await cache.get([b"corrupt", b"list", b"key"])) == [b"key"]
    assert errors("corrupt") == before + 1
    assert cache.redis.circuit_closed


async def test_a_huge_value_is_a_miss(redis_server: RedisServer, cache: RedisCache) -> None:
    redis_server.execute("SETRANGE", PREFIX + "huge", 2**26, "end")
    redis_server.execute("SETRANGE", PREFIX + "large", COMMAND_BYTES, "end")
    assert list(await cache.get([b"huge", b"large"])) == []
    await eventually(lambda: kept(cache))


def tumours(store: Path, version: str, cache: PredictionCache) -> Predictor:
    """Return a predictor of breast_cancer that claims this version."""
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
    assert redis_server.execute("DBSIZE") == 0
    assert "cmdstat_mget" not in redis_server.execute("INFO", "commandstats")
    await predictor.infer(rows[1:], own_context(timeout_seconds=60))
    predictor.close()
    await cache.close()
    assert redis_server.execute("DBSIZE") == BLOCK_ROWS - 1


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
