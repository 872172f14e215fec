"""The prediction cache: what was computed for an item is not computed again while it lives."""

from __future__ import annotations

from collections.abc import Collection

from models.model import Array
from serving.caching.memory import MemoryCache
from serving.caching.redis_tier import RedisCache


class PredictionCache:
    """Outputs by key: in memory and, where there is one, in a Redis that several servers share."""

    def __init__(self, memory: MemoryCache[Array], redis: RedisCache | None = None) -> None:
        self.memory = memory
        self.redis = redis

    @property
    def is_shared(self) -> bool:
        """Whether there is a Redis."""
        return self.redis is not None

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
