"""API keys and the rate limit: who may send requests, and how many."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from limits import RateLimitItem, WindowStats, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter

if TYPE_CHECKING:
    from serving.caching.redis_client import RedisClient

log = logging.getLogger("tiffin.keys")

# The limit on requests without a valid key, per address, where no other limit is set. It never refuses a valid key.
FAILED_KEYS = parse("60/minute")
# How many keys of one request are tried; with more, many guesses would count as one.
MAX_GIVEN_KEYS = 4
# How long after a look at the file of keys it is looked at again.
RELOAD_SECONDS = 1.0
# How many requests are counted in Redis at a time; further ones wait for their turn.
REDIS_REQUESTS = 16
# The most keys and addresses that are counted in memory; beyond that, those that began first are forgotten.
MAX_OWNERS = 100_000


class ApiKeys:
    """The keys that admit a request: those of the settings and, where there is one, of a file with a key per line.

    The file is read again when it changes, so that mounted secrets can be rotated without a restart.
    """

    def __init__(self, keys: Sequence[str], file: Path | None) -> None:
        self.fixed = frozenset(digest(key.encode("utf-8", "surrogateescape")) for key in keys)
        self.file = file
        self.digests = self.fixed
        self.checked = -math.inf
        self.state: tuple[int, int, int] | None = None
        self.fault = ""
        self.reload()

    @property
    def required(self) -> bool:
        """Whether a request needs a key."""
        return bool(self.fixed) or self.file is not None

    def reload(self) -> None:
        """Read the file again if it has changed; keep the keys as they are while it cannot be read or holds none."""
        if self.file is None or time.monotonic() - self.checked < RELOAD_SECONDS:
            return
        self.checked = time.monotonic()
        try:
            status = self.file.stat()
            state = (status.st_mtime_ns, status.st_size, status.st_ino)
            if state != self.state:
                self.digests = self.fixed | {digest(key) for key in read_keys(self.file)}
            self.state, self.fault = state, ""
        except (OSError, ValueError) as error:
            fault = f"{self.file} cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
            if fault != self.fault:
                log.error("%s; the keys stay as they were", fault)
            self.state, self.fault = None, fault

    def owner(self, headers: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return a name for the first valid key in `Authorization: Bearer` and `X-API-Key`; None without one.

        Either header will do, in whichever line: a proxy may have put a token of its own beside the client's key.
        """
        self.reload()
        for key in islice(given_keys(headers), MAX_GIVEN_KEYS):
            # Looked up by its digest, so that the time it takes says nothing about the keys, however many there are.
            given = digest(key)
            if given in self.digests:
                return given.hex()[:16]
        return None


def given_keys(headers: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """Yield the keys in all lines of `Authorization: Bearer` and `X-API-Key`."""
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        if name == b"x-api-key":
            yield value.strip()
        elif name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                yield token.strip()


def digest(key: bytes) -> bytes:
    """Return the SHA-256 digest of a key, which is kept instead of it."""
    return hashlib.sha256(key).digest()


def parse_rate(text: str) -> RateLimitItem:
    """Parse a rate limit such as '100/minute'; raise ValueError that says how to write one."""
    wrong = "must be a number of requests and a time, such as 100/minute"
    try:
        limit = parse(text)
    except ValueError as error:
        raise ValueError(wrong) from error
    if not (limit.amount and limit.get_expiry()):
        raise ValueError(wrong)
    return limit


def read_keys(file: Path) -> list[bytes]:
    """Read the keys in a file, one per line, in UTF-8 or with a byte order mark in UTF-16.

    Raises OSError when the file cannot be read, ValueError when it holds no text or no keys.
    """
    content = file.read_bytes()
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # as in UTF-16 without its mark
        raise ValueError(f"{file} is not text in UTF-8") from None
    keys = [line.strip() for line in text.encode().splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"{file} holds no keys")
    return keys


class Allowance(NamedTuple):
    """The rate limit's decision on a request."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int

    def headers(self) -> dict[str, str]:
        """Return the RateLimit headers, and Retry-After for a refusal.

        Source: IETF draft-ietf-httpapi-ratelimit-headers-06.
        """
        fields = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_seconds),
        }
        return fields if self.allowed else fields | {"Retry-After": str(self.reset_seconds)}


class RateLimit:
    """A limit on the requests per key or address in a window of time, counted in Redis where there is one.

    While Redis does not answer, each worker counts for itself.
    """

    def __init__(self, limit: RateLimitItem, redis: RedisClient | None, prefix: str) -> None:
        self.limit = limit
        self.redis = redis
        # Each takes a connection of its own, and there is only a limited number of them.
        self.slots = asyncio.Semaphore(REDIS_REQUESTS)
        self.own = MemoryCounts(limit)
        self.shared = FixedWindowRateLimiter(RedisCounts(redis.client, f"{prefix}limit:")) if redis else None

    async def take(self, owner: str) -> Allowance:
        """Count one request of `owner`; return whether it is allowed and what is left of its window."""
        allowed, window = await self.count_shared(owner) or self.own.hit(owner)
        return Allowance(
            allowed, self.limit.amount, window.remaining, max(1, math.ceil(window.reset_time - time.time()))
        )

    async def count_shared(self, owner: str) -> tuple[bool, WindowStats] | None:
        """Count one request in Redis; return None when Redis does not answer or is full."""
        if self.shared is None or self.redis is None:
            return None
        async with self.slots:
            if not self.redis.circuit_closed:
                return None
            return await self.redis.execute(self.count(self.shared, owner), may_refuse=True)

    async def count(self, limiter: FixedWindowRateLimiter, owner: str) -> tuple[bool, WindowStats]:
        """Count one request; return whether it is allowed, and the state of the window."""
        return await limiter.hit(self.limit, owner), await limiter.get_window_stats(self.limit, owner)


class MemoryCounts:
    """Counts in fixed windows, which begin with an owner's first request.

    The storage that `limits` has for this goes over all owners at every request.
    """

    def __init__(self, limit: RateLimitItem, max_owners: int = MAX_OWNERS) -> None:
        self.limit = limit
        self.max_owners = max_owners
        # By owner, the end of its window and the requests in it; all windows are equally long, so the first ends first.
        self.windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def hit(self, owner: str) -> tuple[bool, WindowStats]:
        """Count one request; return whether it is allowed, and the state of the window."""
        now = time.time()
        while self.windows and next(iter(self.windows.values()))[0] <= now:
            self.windows.popitem(last=False)
        end, count = self.windows.get(owner, (now + self.limit.get_expiry(), 0))
        self.windows[owner] = (end, count + 1)
        if len(self.windows) > self.max_owners:
            self.windows.popitem(last=False)
        return count < self.limit.amount, WindowStats(end, max(0, self.limit.amount - count - 1))


# Add to a count; the first addition starts its time to live.
COUNT = """
local count = redis.call('incrby', KEYS[1], ARGV[2])
if count == tonumber(ARGV[2]) then redis.call('expire', KEYS[1], ARGV[1]) end
return count
"""


class RedisCounts(Storage):
    """Counts in Redis, through the client that the cache uses too."""

    STORAGE_SCHEME = None

    def __init__(self, client: Any, prefix: str) -> None:
        super().__init__()
        self.client = client
        self.prefix = prefix
        self.count = client.register_script(COUNT)

    @property
    def base_exceptions(self) -> type[Exception]:
        """The class of what the client raises."""
        return Exception

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a count, which expires `expiry` seconds after its first addition, and return it."""
        return int(await self.count([self.prefix + key], [expiry, amount]))

    async def get(self, key: str) -> int:
        """Return a count."""
        return int(await self.client.get(self.prefix + key) or 0)

    async def get_expiry(self, key: str) -> float:
        """Return when a count expires, in seconds since the epoch."""
        return time.time() + max(0, int(await self.client.ttl(self.prefix + key)))

    async def clear(self, key: str) -> None:
        """Delete a count."""
        await self.client.delete(self.prefix + key)

    async def check(self) -> bool:
        """Return whether Redis answers."""
        return bool(await self.client.ping())

    async def reset(self) -> int | None:
        """Do nothing: all counts expire by themselves."""
        return None
