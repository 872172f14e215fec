"""A Redis that answers in time or is passed over until it does again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from serving import metrics

log = logging.getLogger("tiffin.redis")

Result = TypeVar("Result")

PROBE_SECONDS = 1.0

URL_FORMS = (
    "must be an address such as redis://host:6379/0, rediss://host (TLS), unix:///path, cluster+redis://node "
    "or sentinel+redis://sentinel,sentinel/master"
)


def connect(url: str, timeout_seconds: float) -> Any:
    """A client for `url`, which connects when it is first used.

    `redis://`, `rediss://` (TLS) and `unix://` as in redis-py; with the prefix `cluster+` any node of a
    Redis Cluster; with the prefix `sentinel+` the sentinels, separated by commas, and the name of the
    master as path: `sentinel+redis://:password@host1:26379,host2:26379/mymaster?db=0`.

    Raises ValueError, which does not repeat the URL, when it is none of these.
    """
    try:
        return client_for(url, timeout_seconds)
    except (ValueError, TypeError):  # the message may hold a part of the password
        raise ValueError(URL_FORMS) from None


def client_for(url: str, timeout_seconds: float) -> Any:
    """Make the client of `connect`."""
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # A second attempt would double the time that a request waits.
        "retry": Retry(NoBackoff(), 0),
    }
    kind, _, address = url.rpartition("+")
    if kind == "cluster":
        return RedisCluster.from_url(address, **options)
    if kind == "sentinel":
        parts = urlsplit(address)
        credentials, _, hosts = parts.netloc.rpartition("@")
        # redis-py reads user, password, database and TLS from the URL of one host.
        single = urlunsplit((parts.scheme, f"{credentials}@localhost", "", parts.query, ""))
        from_url = Redis.from_url(single, **options).connection_pool.connection_kwargs
        shared = {name: value for name, value in from_url.items() if name not in ("host", "port")}
        if parts.scheme == "rediss":
            shared["ssl"] = True
        addresses = [(host, int(port or 26379)) for host, _, port in (h.partition(":") for h in hosts.split(","))]
        sentinel = Sentinel(addresses, sentinel_kwargs=options, **shared)  # type: ignore[no-untyped-call]
        return sentinel.master_for(parts.path.strip("/") or "mymaster")
    return Redis.from_url(address, **options)


class RedisClient:
    """redis-py's client behind a circuit breaker: no fault of Redis raises an error or costs a second wait.

    What does not answer within `timeout_seconds`, or not as a Redis does, is not asked again
    (`available` is false) until a probe, sent every second, finds that it answers.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        self.client = connect(url, timeout_seconds)
        self.is_cluster = isinstance(self.client, RedisCluster)
        self.timeout_seconds = timeout_seconds
        self.available = True
        self.probe: asyncio.Task[None] | None = None
        metrics.redis_breaker_open.set(0)

    async def ask(self, command: Awaitable[Result], *, may_refuse: bool = False) -> Result | None:
        """The reply to a command; None, and the breaker opens, when there is none in time.

        With `may_refuse` an error as reply does not open it: a full Redis refuses writes and still reads.
        """
        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await command
        except (TimeoutError, RedisTimeoutError):
            reason = "timeout"
        except ResponseError:
            reason = "refused"
            if may_refuse:
                metrics.redis_errors.labels(reason).inc()
                return None
        except InvalidResponse:
            reason = "protocol"
        except RedisError:
            reason = "connection"
        except Exception:  # what is no Redis makes redis-py fail in many ways
            reason = "protocol"
        self.pass_over(reason)
        return None

    def pass_over(self, reason: str) -> None:
        """Count a fault, and ask no more until a probe is answered."""
        metrics.redis_errors.labels(reason).inc()
        if self.available:
            self.available = False
            metrics.redis_breaker_open.set(1)
            log.warning("Redis is passed over until it answers again: %s", reason)
            self.probe = asyncio.create_task(self.wait_for_recovery())

    async def wait_for_recovery(self) -> None:
        """Ask every second, and close the breaker when Redis answers."""
        while not self.available:
            await asyncio.sleep(PROBE_SECONDS)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(self.timeout_seconds):
                    self.available = await self.client.ping() is True
        metrics.redis_breaker_open.set(0)
        log.warning("Redis answers again")

    async def close(self) -> None:
        """Close the connections."""
        if self.probe is not None:
            self.probe.cancel()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self.timeout_seconds):
                await self.client.aclose()
