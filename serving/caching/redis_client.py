"""A Redis client with a circuit breaker: a Redis that does not answer in time is not asked until it does again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import (
    InvalidResponse,
    MaxConnectionsError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from serving.telemetry import metrics

log = logging.getLogger("tiffin.redis")

Result = TypeVar("Result")

PROBE_SECONDS = 1.0
# Connecting takes several round trips, and more with TLS and a password; only the probe waits for it.
CONNECT_SECONDS = 1.0
WRITE_SECONDS = 1.0
# How long a busy event loop may take to notice a reply that has come.
GRACE_SECONDS = 0.01
DEFAULT_PORTS = {"": 6379, "cluster": 6379, "sentinel": 26379}

URL_FORMS = (
    "must be an address such as redis://host:6379/0, rediss://host (TLS), unix:///path, cluster+redis://node,node "
    "or sentinel+redis://sentinel,sentinel/master; / ? # and % in a password are written as %2F %3F %23 and %25"
)


def connect(url: str, timeout_seconds: float) -> Any:
    """Return a client for `url`, which connects when it is first used.

    The URL is `redis://`, `rediss://` (TLS) or `unix://` as in redis-py. With the prefix `cluster+` it names some
    nodes of a Redis Cluster; with the prefix `sentinel+` the sentinels, and the master by its path:
    `sentinel+redis://:password@host1:26379,host2:26379/mymaster?db=0`. Hosts are separated by commas.

    Sentinels get the same options and password, or `sentinel_username` and `sentinel_password` from the query.

    Raises ValueError, which does not repeat the URL, when it is none of these.
    """
    try:
        client = client_for(url, timeout_seconds)
        # Options that no connection takes are reported now, not when the client connects.
        made = client.startup_nodes[0] if isinstance(client, RedisCluster) else client.connection_pool
        made.connection_class(**made.connection_kwargs)
    except Exception:  # redis-py raises errors of many classes, and a message may hold a part of the password
        raise ValueError(URL_FORMS) from None
    return client


def parse(url: str) -> tuple[str, list[tuple[str, int]], str, dict[str, Any]]:
    """Parse a URL into kind of Redis, hosts with ports, path and redis-py's options; raise ValueError if unclear."""
    parts = urlsplit(url.strip())
    kind, _, scheme = parts.scheme.rpartition("+")
    credentials, at, hosts = parts.netloc.rpartition("@")
    addresses = [urlsplit(f"//{host}") for host in hosts.split(",")] if hosts else []
    options: dict[str, Any] = {**parse_url(f"{scheme}://{credentials}{at}?{parts.query}")}
    tls = options.pop("connection_class", None) is SSLConnection
    if scheme == "unix":
        path = unquote(parts.path, errors="strict")
        clear = bool(path) and not kind and not addresses
    else:
        path = unquote(parts.path.strip("/"), errors="strict")
        clear = kind in DEFAULT_PORTS and (len(addresses) == 1 or (bool(addresses) and kind != ""))
        clear = clear and all(address.hostname and address.port != 0 for address in addresses)
        if path and kind != "sentinel":
            options.setdefault("db", int(path))
    clear = clear and not parts.fragment and "ssl" not in options and options.get("db", 0) >= 0
    # The replacement character stands for percent-encoded bytes that are not UTF-8.
    if not clear or "\N{REPLACEMENT CHARACTER}" in options.get("username", "") + options.get("password", ""):
        raise ValueError(URL_FORMS)
    if tls:
        options["ssl"] = True
    return kind, [(unquote(str(a.hostname)), a.port or DEFAULT_PORTS[kind]) for a in addresses], path, options


def client_for(url: str, timeout_seconds: float) -> Any:
    """Return the client for a URL, before `connect` checks its options."""
    kind, hosts, path, given = parse(url)
    options: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        **given,
        # A second attempt would double the time that a request waits.
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }
    if kind == "cluster":
        return RedisCluster(startup_nodes=[ClusterNode(host, port) for host, port in hosts], **options)
    if kind == "sentinel":
        own = {"username": options.pop("sentinel_username", None), "password": options.pop("sentinel_password", None)}
        asked = {name: value for name, value in options.items() if name not in ("username", "db")}
        asked |= {name: value for name, value in own.items() if value is not None}
        # Sentinels are asked one after the other: one that hangs must leave time for the next.
        asked |= {name: timeout_seconds / len(hosts) for name in ("socket_timeout", "socket_connect_timeout")}
        sentinel = Sentinel(hosts, sentinel_kwargs=asked, **options)  # type: ignore[no-untyped-call]
        return sentinel.master_for(path or "mymaster")
    if not hosts:
        return Redis(unix_socket_path=path, **options)
    ((host, port),) = hosts
    return Redis(host=host, port=port, **options)


async def within(seconds: float, command: Awaitable[Result]) -> Result:
    """Return the reply to a command; raise TimeoutError when there is none within `seconds`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        # The reply may have come while the loop was busy with something else: time is up once the loop has looked.
        timer = loop.call_later(seconds, lambda: limit.reschedule(loop.time() + GRACE_SECONDS))
        try:
            return await command
        finally:
            timer.cancel()


def fault(error: Exception) -> str:
    """Return the label `reason` under which the metric of Redis errors counts an error."""
    match error:
        case TimeoutError() | RedisTimeoutError():
            return "timeout"
        case ResponseError():
            return "refused"
        case InvalidResponse():
            return "protocol"
        case RedisError() | RedisClusterException() | OSError():
            return "connection"
    return "protocol"  # a server that is no Redis makes redis-py fail in many ways


def is_replica(error: object) -> bool:
    """Return whether Redis refused a write because it is a replica; for a script only the text says so."""
    return isinstance(error, ResponseError) and "READONLY" in f"{error.status_code} {error}"


class RedisClient:
    """redis-py's client behind a circuit breaker: no fault of Redis raises an error or costs a second wait.

    A Redis that does not answer within `timeout_seconds`, or not as a Redis does, is not asked again
    (`circuit_closed` is false) until a probe, sent every second on new connections, finds that it answers.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.timeout_seconds = timeout_seconds
        self.connect_seconds = max(timeout_seconds, CONNECT_SECONDS)
        self.client = connect(url, self.connect_seconds)
        self.is_cluster = isinstance(self.client, RedisCluster)
        self.circuit_closed = True
        self.probe: asyncio.Task[None] | None = None
        metrics.redis_breaker_open.set(0)

    async def execute(self, command: Awaitable[Result], *, may_refuse: bool = False) -> Result | None:
        """Return the reply to a command; when there is none in time, open the breaker and return None.

        A command that Redis does not permit, and with `may_refuse` any error as reply, does not open it: a full Redis
        refuses writes and still reads. A master that became a replica opens it: its name may mean another by now.
        """
        try:
            return await within(self.timeout_seconds, command)
        except Exception as error:
            reason = fault(error)
            metrics.redis_errors.labels(reason).inc()
            refused = may_refuse and reason == "refused" and not is_replica(error)
            if not refused and not isinstance(error, NoPermissionError | MaxConnectionsError):
                self.trip(reason)
            return None

    async def write(self, pipeline: Any) -> bool:
        """Execute a pipeline of writes; return whether Redis replied in time, even if it refused some.

        Writes become slow before reads do, so they do not open the breaker, unless they were sent to a replica.
        """
        try:
            replies = await within(WRITE_SECONDS, pipeline.execute(raise_on_error=False))
        except Exception as error:
            replies = [error]
        reasons = [fault(reply) for reply in replies if isinstance(reply, Exception)]
        for reason in reasons:
            metrics.redis_errors.labels(reason).inc()
        if any(map(is_replica, replies)):
            self.trip("refused by a replica")
        return set(reasons) <= {"refused"}

    def trip(self, reason: str) -> None:
        """Open the breaker until a probe is answered."""
        if self.circuit_closed:
            self.circuit_closed = False
            metrics.redis_breaker_open.set(1)
            log.warning("Redis is passed over until it answers again: %s", reason)
            self.probe = asyncio.create_task(self.wait_for_recovery())

    async def wait_for_recovery(self) -> None:
        """Disconnect, probe every second, and close the breaker when Redis answers."""
        await self.disconnect()
        while not self.circuit_closed:
            await asyncio.sleep(PROBE_SECONDS)
            self.circuit_closed = await self.answers()
        metrics.redis_breaker_open.set(0)
        log.warning("Redis answers again")

    async def answers(self) -> bool:
        """Return whether Redis answers in time once it is connected."""
        try:
            # Sentinels are asked first, then their master.
            for seconds in (2 * self.connect_seconds, self.timeout_seconds):
                if await within(seconds, self.client.ping()) is not True:
                    return False
        except NoPermissionError:
            return True  # it does answer, to commands that it permits
        except Exception:
            return False
        return True

    async def disconnect(self) -> None:
        """Close the connections; the next command connects anew, to what the host's name resolves to by then."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self.connect_seconds):
                await self.client.aclose()

    async def close(self) -> None:
        """Stop the probe and close the connections."""
        if self.probe is not None:
            self.probe.cancel()
        await self.disconnect()
