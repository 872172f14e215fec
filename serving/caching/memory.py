"""Caches in memory, and the prediction cache: what was computed for an item is not computed again while it lives."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, NamedTuple, TypeVar

from models.model import Array
from serving.caching.redis_tier import RedisCache
from serving.telemetry import metrics

Value = TypeVar("Value")

# Bytes that an entry takes beside its value: key, value object, tuple and the dictionary's slot.
ENTRY_BYTES = 350


class Entry(NamedTuple, Generic[Value]):
    """A value, its size in bytes and the times at which it was made and ends, of the cache's clock."""

    value: Value
    size: int
    made: float
    expires: float


class MemoryCache(Generic[Value]):
    """Values by key, bounded in bytes; the least recently used go first, all after their time to live."""

    def __init__(self, name: str, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self.ttl_seconds = ttl_seconds
        self.clock = clock
        self.bytes = 0
        self.entries: OrderedDict[bytes, Entry[Value]] = OrderedDict()
        self.evictions = metrics.cache_evictions.labels(name)
        self.size = metrics.cache_bytes.labels(name)

    def get(self, key: bytes) -> tuple[Value, float] | None:
        """The value of `key` and its age in seconds, or None when there is none that still lives."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        now = self.clock()
        if not entry.made <= now < entry.expires:
            self.remove(key)
            return None
        self.entries.move_to_end(key)
        return entry.value, now - entry.made

    def put(self, key: bytes, value: Value, size: int, age: float = 0.0) -> None:
        """Keep a value of `size` bytes, made `age` seconds ago; those that were not used for longest make room."""
        if key in self.entries:
            self.remove(key)
        size += ENTRY_BYTES
        if size > self.max_bytes or age >= self.ttl_seconds:
            return
        made = self.clock() - age
        self.entries[key] = Entry(value, size, made, made + self.ttl_seconds)
        self.bytes += size
        while self.bytes > self.max_bytes:
            self.remove(next(iter(self.entries)))
            self.evictions.inc()
        self.size.set(self.bytes)

    def remove(self, key: bytes) -> None:
        """Drop an entry."""
        self.bytes -= self.entries.pop(key).size
        self.size.set(self.bytes)


class PredictionCache:
    """Outputs by key: in memory and, where there is one, in a Redis that several servers share."""

    def __init__(self, memory: MemoryCache[Array], redis: RedisCache | None = None) -> None:
        self.memory = memory
        self.redis = redis

    def get(self, key: bytes) -> tuple[Array, float] | None:
        """The output of `key` in memory and its age in seconds."""
        return self.memory.get(key)

    async def get_shared(self, keys: Collection[bytes]) -> dict[bytes, tuple[Array, float]]:
        """Those of the outputs that Redis has, with their ages; they are in memory from now on."""
        if self.redis is None:
            return {}
        found = await self.redis.get(list(keys))
        # Servers that share a Redis need not agree on the time to live.
        found = {key: known for key, known in found.items() if known[1] < self.memory.ttl_seconds}
        for key, (output, age) in found.items():
            self.memory.put(key, output, output.nbytes, age)
        return found

    def put(self, key: bytes, output: Array, *, shared: bool = True) -> None:
        """Keep an output, also in Redis when it is to be shared; writing it there delays nobody."""
        # A copy: a row of a batch would keep the whole batch alive.
        self.memory.put(key, output.copy(), output.nbytes)
        if shared and self.redis is not None:
            self.redis.put(key, output)

    async def close(self) -> None:
        """Write to Redis what is to be written."""
        if self.redis is not None:
            await self.redis.close()
