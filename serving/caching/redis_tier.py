"""The prediction cache's tier in Redis."""

from __future__ import annotations

import asyncio
import logging
import struct
import time
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from models.model import Array
from serving.telemetry import metrics

if TYPE_CHECKING:
    from serving.caching.redis_client import RedisClient

log = logging.getLogger("tiffin.redis")

Known = tuple[Array, float]

# Version, dtype, number of dimensions, time of making in milliseconds since the epoch; then come the
# dimensions, the values, and the checksum of all that.
HEADER = struct.Struct("<4s3sBQ")
VERSION = b"tfn1"
CHECKSUM = struct.Struct("<I")
# The dtypes of graphs' outputs; others could make numpy run code.
DTYPES = frozenset((b"<f2", b"<f4", b"<f8", b"<i4", b"<i8", b"|u1", b"|i1", b"|b1"))
MAX_DIMENSIONS = 8
MAX_LENGTH = 2**32 - 1
# Limit of a command, of its reply and so of a value: this much passes well within TIFFIN_REDIS_TIMEOUT_SECONDS.
COMMAND_BYTES = 2**18
READ_KEYS = 256
WRITE_BATCH = 512
# Limits of the queue of writes; when it is full, new outputs are not written.
WRITE_QUEUE = 20_000
WRITE_QUEUE_BYTES = 16 * 2**20
# Extra time for replies that have come, but were not seen in time since the event loop was busy.
LATE_SECONDS = 0.03
# The pause after a write that Redis did not take, and the longest that closing waits for the writes that are left.
WRITE_PAUSE_SECONDS = 1.0
CLOSE_SECONDS = 2.0


def encode(output: Array, made: float) -> bytes:
    """Encode an output as bytes; `made` is the time at which it was computed, in seconds since the epoch.

    Raises ValueError for what `decode` would refuse: other dtypes, more dimensions or bytes.
    """
    dtype = output.dtype.newbyteorder("<")
    if dtype.str.encode() not in DTYPES or output.ndim > MAX_DIMENSIONS or max(output.shape, default=0) > MAX_LENGTH:
        raise ValueError(f"an array of dtype {output.dtype} and shape {output.shape} cannot be stored")
    if HEADER.size + 4 * output.ndim + output.nbytes + CHECKSUM.size > COMMAND_BYTES:
        raise ValueError(f"an array of {output.nbytes} bytes is too large to be stored")
    header = HEADER.pack(VERSION, dtype.str.encode(), output.ndim, int(made * 1000))
    body = header + struct.pack(f"<{output.ndim}I", *output.shape) + output.astype(dtype, copy=False).tobytes()
    return body + CHECKSUM.pack(zlib.crc32(body))


def decode(value: object) -> Known | None:
    """Return the output and when it was made, in seconds since the epoch; None for what `encode` did not write."""
    if not isinstance(value, bytes) or not HEADER.size + CHECKSUM.size <= len(value) <= COMMAND_BYTES:
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


class Lookup:
    """The keys that a request asks for, and the outputs found so far."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.keys = keys
        self.asked = 0
        self.found: dict[bytes, Known] = {}
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()

    async def wait(self, seconds: float) -> None:
        """Wait until the lookup ends, or for so long; `asyncio.wait` would take several times as much CPU time."""
        self.timer = self.loop.call_later(seconds, self.be_late)
        try:
            await self.done
        finally:
            self.timer.cancel()

    def be_late(self) -> None:
        """Wait a little longer for what has come, but was not seen since the event loop was busy."""
        self.timer = self.loop.call_later(LATE_SECONDS, self.end)

    def end(self) -> None:
        """Let the request go on with the outputs found so far."""
        if not self.done.done():
            self.done.set_result(None)


class RedisCache:
    """Outputs by key in Redis. Nothing here raises: what Redis cannot return, or not in time, is a miss."""

    def __init__(self, redis: RedisClient, prefix: str, ttl_seconds: float) -> None:
        self.redis = redis
        self.prefix = prefix.encode()
        self.ttl_milliseconds = round(ttl_seconds * 1000)
        self.lookups: list[Lookup] = []
        self.read_keys = READ_KEYS
        self.reader: asyncio.Task[None] | None = None
        self.unwritten: OrderedDict[bytes, bytes] = OrderedDict()
        self.unwritten_bytes = 0
        self.write_again = 0.0
        self.writer: asyncio.Task[None] | None = None

    async def get(self, keys: Sequence[bytes]) -> dict[bytes, Known]:
        """Return the outputs that Redis has and returns in time, with their ages in seconds."""
        if not self.redis.circuit_closed or not keys:
            return {}
        lookup = Lookup(keys)
        self.lookups.append(lookup)
        if self.reader is None or self.reader.done():
            self.reader = asyncio.create_task(self.read())
        await lookup.wait(self.redis.timeout_seconds)
        return lookup.found

    async def read(self) -> None:
        """Read the keys of all lookups in pieces, each with one command for all that wait, until none is left."""
        try:
            while waiting := [lookup for lookup in self.lookups if not lookup.done.done()]:
                self.lookups = waiting
                if not self.redis.circuit_closed:
                    break
                await self.read_piece()
        except Exception:
            log.exception("reading from Redis failed")
        finally:
            for lookup in self.lookups:
                lookup.end()
            self.lookups = []

    async def read_piece(self) -> None:
        """Read a piece with one command; lookups with the fewest keys left go first, so that none waits for many."""
        room = self.read_keys
        piece: list[tuple[Lookup, Sequence[bytes]]] = []
        for lookup in sorted(self.lookups, key=lambda lookup: len(lookup.keys) - lookup.asked):
            piece.append((lookup, lookup.keys[lookup.asked : lookup.asked + room]))
            room -= len(piece[-1][1])
            if not room:
                break
        found = await self.mget(list(dict.fromkeys(key for _, keys in piece for key in keys)))
        for lookup, keys in piece:
            lookup.asked += len(keys)
            lookup.found |= {key: found[key] for key in keys if key in found}
            if lookup.asked == len(lookup.keys):
                lookup.end()

    async def mget(self, keys: list[bytes]) -> dict[bytes, Known]:
        """Ask Redis for outputs with one command; return those it has, with their ages in seconds."""
        names = [self.prefix + key for key in keys]
        metrics.redis_bytes_sent.inc(sum(map(len, names)))
        values = await self.redis.execute(self.values(names))
        if values is None:
            self.read_keys = max(1, self.read_keys // 4)  # the values may have been too large to come in time
            return {}
        sizes = [len(value) for value in values if isinstance(value, bytes)]
        metrics.redis_bytes_received.inc(sum(sizes))
        largest = max(sizes, default=1)
        self.read_keys = max(1, min(2 * self.read_keys, READ_KEYS, COMMAND_BYTES // max(1, largest)))
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

    async def values(self, names: list[bytes]) -> list[Any]:
        """Return the values stored under these names; raise ValueError when the reply is not that of a Redis."""
        client = self.redis.client
        values = await (client.mget_nonatomic(names) if self.redis.is_cluster else client.mget(names))
        if not isinstance(values, list) or len(values) != len(names):
            raise ValueError("not a reply to MGET")
        return values

    def put(self, key: bytes, output: Array) -> None:
        """Queue an output to be written soon, unless the queue is full or the output cannot be written."""
        if not self.redis.circuit_closed or time.monotonic() < self.write_again:
            return
        if len(self.unwritten) >= WRITE_QUEUE or self.unwritten_bytes + output.nbytes > WRITE_QUEUE_BYTES:
            metrics.redis_errors.labels("queue_full").inc()
            return
        try:
            value = encode(output, time.time())
        except ValueError:
            metrics.redis_errors.labels("unsupported").inc()
            return
        name = self.prefix + key
        self.unwritten_bytes += len(value) - len(self.unwritten.get(name, b""))
        self.unwritten[name] = value
        if self.writer is None or self.writer.done():
            self.writer = asyncio.create_task(self.write())

    async def write(self) -> None:
        """Write the queued outputs in batches; drop them, and pause, when Redis does not take them."""
        try:
            while self.unwritten and self.redis.circuit_closed:
                if not await self.redis.write(self.next_batch()):
                    self.write_again = time.monotonic() + WRITE_PAUSE_SECONDS
                    break
        except Exception:
            log.exception("writing to Redis failed")
        finally:
            self.unwritten.clear()
            self.unwritten_bytes = 0

    def next_batch(self) -> Any:
        """Take as many outputs from the queue as one pipeline may carry."""
        pipeline = self.redis.client.pipeline(transaction=False)
        room = COMMAND_BYTES
        while self.unwritten and len(pipeline) < WRITE_BATCH:
            name, value = next(iter(self.unwritten.items()))
            room -= len(value)
            if room < 0:
                break
            self.unwritten_bytes -= len(self.unwritten.pop(name))
            pipeline.set(name, value, px=self.ttl_milliseconds)
            metrics.redis_bytes_sent.inc(len(name) + len(value))
        return pipeline

    async def close(self) -> None:
        """Write the queued outputs, as far as there is time."""
        if self.writer is not None:
            await asyncio.wait([self.writer], timeout=CLOSE_SECONDS)
            self.writer.cancel()
