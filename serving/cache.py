"""The prediction cache: what was computed for an item is not computed again while it lives."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from models.model import Array

# Bytes that an entry takes beside its output: key, array object and the dictionary's slot.
ENTRY_BYTES = 300


class MemoryCache:
    """Outputs by key, bounded in bytes; the least recently used go first, all after their time to live."""

    def __init__(self, max_bytes: int, ttl_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.ttl_seconds = ttl_seconds
        self.clock = clock
        self.bytes = 0
        self.entries: OrderedDict[bytes, tuple[float, Array]] = OrderedDict()

    def get(self, key: bytes) -> Array | None:
        """The output of `key`, or None when there is none that still lives."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        expires, output = entry
        if expires <= self.clock():
            self.remove(key)
            return None
        self.entries.move_to_end(key)
        return output

    def put(self, key: bytes, output: Array) -> None:
        """Keep `output`; entries that were not used for longest make room for it."""
        if key in self.entries:
            self.remove(key)
        # A copy: a row of a batch would keep the whole batch alive.
        self.entries[key] = (self.clock() + self.ttl_seconds, output.copy())
        self.bytes += output.nbytes + ENTRY_BYTES
        while self.bytes > self.max_bytes:
            self.remove(next(iter(self.entries)))

    def remove(self, key: bytes) -> None:
        """Drop an entry."""
        _, output = self.entries.pop(key)
        self.bytes -= output.nbytes + ENTRY_BYTES
