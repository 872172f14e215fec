"""The prediction cache's tier in Redis."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from models.model import Array
from serving import metrics

if TYPE_CHECKING:
    from serving.redis_client import RedisClient

# Version, dtype, number of dimensions, milliseconds since the epoch at which it was made; then the
# dimensions, the values, and the checksum of all that.
HEADER = struct.Struct("<4s3sBQ")
VERSION = b"tfn1"
CHECKSUM = struct.Struct("<I")
# The dtypes that graphs give; others could make numpy run code.
DTYPES = frozenset((b"<f2", b"<f4", b"<f8", b"<i4", b"<i8", b"|u1", b"|i1", b"|b1"))
MAX_DIMENSIONS = 8
# What is written to Redis at a time, and the most that waits for it; when that is full, new outputs are not written.
WRITE_BATCH = 512
WRITE_QUEUE = 20_000


def encode(output: Array, made: float) -> bytes:
    """An output as bytes; `made` is the time at which it was computed, in seconds since the epoch."""
    dtype = output.dtype.newbyteorder("<")
    header = HEADER.pack(VERSION, dtype.str.encode(), output.ndim, int(made * 1000))
    body = header + struct.pack(f"<{output.ndim}I", *output.shape) + output.astype(dtype, copy=False).tobytes()
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode(value: object) -> tuple[Array, float] | None:
    """The output and when it was made; None for what `encode` did not write."""
    if not isinstance(value, bytes) or len(value) < HEADER.size + CHECKSUM.size:
        return None
    body, (checksum,) = value[: -CHECKSUM.size], CHECKSUM.unpack(value[-CHECKSUM.size :])
    version, dtype, dimensions, made = HEADER.unpack_from(body)
    values = HEADER.size + 4 * dimensions
    if version != VERSION or dtype not in DTYPES or dimensions > MAX_DIMENSIONS or len(body) < values:
        return None
    if zlib.crc32(body) != checksum:
        return None
    shape = struct.unpack_from(f"<{dimensions}I", body, HEADER.size)
    try:
        return np.frombuffer(body, np.dtype(dtype.decode()), offset=values).reshape(shape), made / 1000
    except ValueError:
        return None


class RedisCache:
    """Outputs by key in Redis. Nothing here raises: what Redis cannot say is a miss."""

    def __init__(self, redis: RedisClient, prefix: str, ttl_seconds: float) -> None:
        self.redis = redis
        self.prefix = prefix.encode()
        self.ttl_milliseconds = round(ttl_seconds * 1000)
        self.unread: list[tuple[Sequence[bytes], asyncio.Future[dict[bytes, tuple[Array, float]]]]] = []
        self.reader: asyncio.Task[None] | None = None
        self.unwritten: dict[bytes, bytes] = {}
        self.writer: asyncio.Task[None] | None = None

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, tuple[Array, float]]:
        """The outputs that Redis has and their ages in seconds."""
        if not self.redis.available:
            return {}
        answer = asyncio.get_running_loop().create_future()
        self.unread.append((keys, answer))
        if self.reader is None or self.reader.done():
            self.reader = asyncio.create_task(self.read())
        found = await answer
        return {key: found[key] for key in keys if key in found}

    async def read(self) -> None:
        """Read what is asked for, with one command for all requests that came during the one before."""
        while self.unread:
            asked, self.unread = self.unread, []
            found = await self.mget(list(dict.fromkeys(key for keys, _ in asked for key in keys)))
            for _, answer in asked:
                if not answer.done():
                    answer.set_result(found)

    async def mget(self, keys: list[bytes]) -> dict[bytes, tuple[Array, float]]:
        """The outputs that Redis has and their ages in seconds, with one command."""
        if not self.redis.available:
            return {}
        names = [self.prefix + key for key in keys]
        client = self.redis.client
        values = await self.redis.ask(client.mget_nonatomic(names) if self.redis.is_cluster else client.mget(names))
        if not isinstance(values, list) or len(values) != len(keys):
            if self.redis.available:  # it answered, but not as a Redis does
                self.redis.pass_over("protocol")
            return {}
        now = time.time()
        found = {}
        for key, value in zip(keys, values, strict=True):
            if value is None:
                continue
            decoded = decode(value)
            if decoded is None:
                metrics.redis_errors.labels("corrupt").inc()
            else:
                found[key] = decoded[0], max(0.0, now - decoded[1])
        return found

    def put(self, key: bytes, output: Array) -> None:
        """Write an output soon."""
        if not self.redis.available:
            return
        if len(self.unwritten) >= WRITE_QUEUE:
            metrics.redis_errors.labels("queue_full").inc()
            return
        self.unwritten[self.prefix + key] = encode(output, time.time())
        if self.writer is None or self.writer.done():
            self.writer = asyncio.create_task(self.write())

    async def write(self) -> None:
        """Write what waits, in batches."""
        while self.unwritten and self.redis.available:
            pipeline = self.redis.client.pipeline(transaction=False)
            for name in list(islice(self.unwritten, WRITE_BATCH)):
                pipeline.set(name, self.unwritten.pop(name), px=self.ttl_milliseconds)
            # A full Redis refuses writes and still reads.
            replies = await self.redis.ask(pipeline.execute(raise_on_error=False))
            refused = sum(isinstance(reply, Exception) for reply in replies or ())
            if refused:
                metrics.redis_errors.labels("refused").inc(refused)
        self.unwritten.clear()

    async def close(self) -> None:
        """Write what waits."""
        if self.writer is not None:
            await self.writer
