"""Redis tiers of the prediction cache, with a timeout that holds on a busy machine."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import AsyncIterator

import numpy as np

from models.model import Array
from serving.caching.redis_client import RedisClient
from serving.caching.redis_tier import (
    RedisCache,
)
from tests.support.metrics import sample

PREFIX = "tiffin:"
# Far longer than the default, since other tests use the same cores.
TIMEOUT_SECONDS = 1.0
# Far less than if each of a hundred requests waited.
ONE_WAIT_SECONDS = 20 * TIMEOUT_SECONDS
OUTPUT = np.arange(4, dtype=np.float32)


@contextlib.asynccontextmanager
async def cache_at(url: str, ttl_seconds: float = 60, prefix: str = PREFIX) -> AsyncIterator[RedisCache]:
    """Open a Redis tier as a server does, and close it with its client."""
    client = RedisClient(url, TIMEOUT_SECONDS)
    cache = RedisCache(client, prefix, ttl_seconds)
    yield cache
    await cache.close()
    await client.close()


async def kept(cache: RedisCache, key: bytes = b"key", output: Array = OUTPUT) -> bool:
    """Store an output and read it back; return whether it is the same."""
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
    """Append the checksum that the Redis tier expects."""
    return body + struct.pack("<I", zlib.crc32(body))
