"""Who may ask, and how often: API keys and the rate limit."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from limits import RateLimitItem, WindowStats
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter

if TYPE_CHECKING:
    from serving.redis_client import RedisClient

# The file of keys is looked at again after this time.
RELOAD_SECONDS = 1.0
# What is counted in Redis at a time; more requests than that wait for their turn.
REDIS_REQUESTS = 16


class ApiKeys:
    """The keys that admit a request: those of the settings and, where there is one, of a file with a key per line.

    The file is read again when it changes, so that mounted secrets can be rotated without a restart.
    """

    def __init__(self, keys: Sequence[str], file: Path | None) -> None:
        self.fixed = frozenset(digest(key.encode()) for key in keys)
        self.file = file
        self.digests = self.fixed
        self.checked = -math.inf
        self.state: tuple[int, int, int] | None = None
        self.reload()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self.fixed) or self.file is not None

    def reload(self) -> None:
        """Read the file again if it has changed; while it is gone, the keys stay as they were."""
        if self.file is None or time.monotonic() - self.checked < RELOAD_SECONDS:
            return
        self.checked = time.monotonic()
        with contextlib.suppress(OSError):
            status = self.file.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state != self.state:
                lines = self.file.read_bytes().splitlines()
                self.digests = self.fixed | {digest(line.strip()) for line in lines if line.strip()}
                self.state = state

    def owner(self, headers: Mapping[bytes, bytes]) -> str | None:
        """A name for the key in `Authorization: Bearer` or `X-API-Key`; None without a valid one."""
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        key = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        self.reload()
        given = digest(key)
        # Every key is compared, each in constant time: how long it takes tells nothing of them.
        valid = [hmac.compare_digest(given, known) for known in self.digests]
        return given.hex()[:16] if any(valid) else None


def digest(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


class Allowance(NamedTuple):
    """What the rate limit says to a request."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """The RateLimit headers (IETF draft-ietf-httpapi-ratelimit-headers-06), and Retry-After for a refusal."""
        fields = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }
        return fields if self.allowed else fields | {"Retry-After": str(self.reset_seconds)}


class RateLimit:
    """At most so many requests per key or address in a window of time, counted in Redis where there is one.

    While Redis does not answer, each worker counts for itself.
    """

    def __init__(self, limit: RateLimitItem, redis: RedisClient | None, prefix: str) -> None:
        self.limit = limit
        self.redis = redis
        # Each takes a connection for itself, of which there are not any number.
        self.slots = asyncio.Semaphore(REDIS_REQUESTS)
        self.own = FixedWindowRateLimiter(MemoryStorage())
        self.shared = FixedWindowRateLimiter(redis_storage(redis, prefix)) if redis else None

    async def take(self, owner: str) -> Allowance:
        """Count one request of `owner`."""
        allowed, window = await self.count_shared(owner) or await self.count(self.own, owner)
        return Allowance(
            allowed, self.limit.amount, window.remaining, max(1, math.ceil(window.reset_time - time.time()))
        )

    async def count_shared(self, owner: str) -> tuple[bool, WindowStats] | None:
        """Count one request in Redis; None when it does not answer or is full."""
        if self.shared is None or self.redis is None:
            return None
        async with self.slots:
            if not self.redis.available:
                return None
            return await self.redis.ask(self.count(self.shared, owner), may_refuse=True)

    async def count(self, limiter: FixedWindowRateLimiter, owner: str) -> tuple[bool, WindowStats]:
        """Count one request; whether it is allowed, and the state of the window."""
        return await limiter.hit(self.limit, owner), await limiter.get_window_stats(self.limit, owner)


# Add to a count; the first one begins its time to live.
COUNT = """
local count = redis.call('incrby', KEYS[1], ARGV[2])
if count == tonumber(ARGV[2]) then redis.call('expire', KEYS[1], ARGV[1]) end
return count
"""


class RedisCounts(Storage):
    """Counts in Redis, over the client that the cache has too."""

    STORAGE_SCHEME = None

    def __init__(self, client: Any, prefix: str) -> None:
        super().__init__()
        self.client = client
        self.prefix = prefix
        self.count = client.register_script(COUNT)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the client raises."""
        return Exception

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a count, which ends `expiry` seconds after its first."""
        return int(await self.count([self.prefix + key], [expiry, amount]))

    async def get(self, key: str) -> int:
        """Return a count."""
        return int(await self.client.get(self.prefix + key) or 0)

    async def get_expiry(self, key: str) -> float:
        """Return when a count ends, in seconds since the epoch."""
        return time.time() + max(0, int(await self.client.ttl(self.prefix + key)))

    async def clear(self, key: str) -> None:
        """Forget a count."""
        await self.client.delete(self.prefix + key)

    async def check(self) -> bool:
        """Return whether Redis answers."""
        return bool(await self.client.ping())

    async def reset(self) -> int | None:
        """Do nothing: all counts end by themselves."""
        return None


def redis_storage(redis: RedisClient, prefix: str) -> Storage:
    """Return storage for the counts, over the connections of `redis`."""
    return RedisCounts(redis.client, f"{prefix}limit:")
