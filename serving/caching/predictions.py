"""The prediction cache: an item's output is not computed again until it expires."""

from __future__ import annotations

from collections.abc import Collection

from models.model import Array
from serving.caching.memory import MemoryCache
from serving.caching.redis_tier import RedisCache


class PredictionCache:
    """Outputs by key, in memory and, where there is one, in a Redis that several servers share."""

    def __init__(self, memory: MemoryCache[Array], redis: RedisCache | None = None) -> None:
        self.memory = memory
        self.redis = redis

    @property
    def is_shared(self) -> bool:
        """Whether outputs are shared through a Redis."""
        return self.redis is not None

    def get(self, key: bytes) -> tuple[Array, float] | None:
        """Return the output of `key` in memory and its age in seconds, or None."""
        return self.memory.get(key)

    async def get_shared(self, keys: Collection[bytes]) -> dict[bytes, tuple[Array, float]]:
        """Return the outputs that Redis has, with their ages in seconds, and store them in memory."""
        if self.redis is None:
            return {}
        found = await self.redis.get(list(keys))
        # Servers that share a Redis need not agree on the time to live.
        found = {key: known for key, known in found.items() if known[1] < self.memory.ttl_seconds}
        for key, (output, age) in found.items():
            self.memory.put(key, output, output.nbytes, age)
        return found

    def put(self, key: bytes, output: Array, *, shared: bool = True) -> None:
        """Store an output in memory and, where `shared`, in Redis, without waiting until it is written there."""
        # A copy: a row of a batch would keep the whole batch alive.
        self.memory.put(key, output.copy(), output.nbytes)
        if shared and self.redis is not None:
            self.redis.put(key, output)

    async def close(self) -> None:
        """Write to Redis the outputs that are still to be written."""
        if self.redis is not None:
            await self.redis.close()
