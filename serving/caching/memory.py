"""A cache in memory, bounded in bytes and in time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from serving.telemetry import metrics

Value = TypeVar("Value")

# Bytes that an entry takes besides its value: key, value object, tuple and the dictionary's slot.
ENTRY_BYTES = 350


class Entry(NamedTuple, Generic[Value]):
    """A value, its size in bytes and the times, by the cache's clock, at which it was made and expires."""

    value: Value
    size: int
    made: float
    expires: float


class MemoryCache(Generic[Value]):
    """Values by key, bounded in bytes: the least recently used go first, all expire after their time to live."""

    def __init__(self, name: str, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.time) -> None:
        self.max_bytes = max_bytes
        self.ttl_seconds = ttl_seconds
        self.clock = clock
        self.bytes = 0
        self.entries: OrderedDict[bytes, Entry[Value]] = OrderedDict()
        self.evictions = metrics.cache_evictions.labels(name)
        self.size = metrics.cache_bytes.labels(name)

    def get(self, key: bytes) -> tuple[Value, float] | None:
        """Return the value of `key` and its age in seconds, or None when it is missing or has expired."""
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
        """Store a value of `size` bytes, made `age` seconds ago; evict the least recently used ones to make room."""
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
        """Remove an entry."""
        self.bytes -= self.entries.pop(key).size
        self.size.set(self.bytes)
