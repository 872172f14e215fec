"""The Redis client: addresses, sentinels, clusters, permissions, and masters that become replicas."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from limits import parse
from pydantic import ValidationError

from loadtest.processes import free_port
from serving.caching.redis_client import RedisClient, connect
from serving.http.access import RateLimit
from serving.setting_faults import faults
from serving.settings import Settings
from tests.support.clocks import START_SECONDS, eventually, wait_until
from tests.support.metrics import sample
from tests.support.redis_caches import PREFIX, TIMEOUT_SECONDS, cache_at, kept
from tests.support.redis_servers import RedisServer
from tests.support.tcp_servers import forwarding, tcp_server

pytestmark = pytest.mark.anyio


# Addresses.

ADDRESSES: dict[str, dict[str, Any]] = {
    "redis://host": {"host": "host", "port": 6379},
    "redis://host:1234/2": {"host": "host", "port": 1234, "db": 2},
    "redis://host/1?db=2": {"db": 2},
    "redis://host:/": {"host": "host", "port": 6379},
    "redis://[::1]:1234": {"host": "::1", "port": 1234},
    "redis://[fd00::1]/1": {"host": "fd00::1", "port": 6379, "db": 1},
    "redis://:A1b+C2d=@host": {"password": "A1b+C2d="},
    "redis://:A1b%2BC2d%2FE3%3D@host": {"password": "A1b+C2d/E3="},
    "redis://:a%23b%3Fc%40d%25e@host": {"password": "a#b?c@d%e"},
    "redis://:a@b@host": {"host": "host", "password": "a@b"},
    "redis://na%20me:p%C3%A4ss@host": {"username": "na me", "password": "päss"},
    "redis://user:@host": {"username": "user", "password": None},
    "rediss://tiffin:a+b@host:6380/2?ssl_cert_reqs=none": {
        "username": "tiffin",
        "password": "a+b",
        "db": 2,
        "ssl_cert_reqs": "none",
    },
    " REDIS://host:1234\n": {"host": "host", "port": 1234},
    "redis://host?health_check_interval=5&client_name=a%40b": {"health_check_interval": 5, "client_name": "a@b"},
    "unix:///run/redis.sock?db=1": {"path": "/run/redis.sock", "db": 1},
    "unix://user:a+b@/run/redis.sock": {"path": "/run/redis.sock", "username": "user", "password": "a+b"},
    "sentinel+redis://:a+b@one,two/name": {"password": "a+b"},
}


@pytest.mark.parametrize("url", ADDRESSES, ids=ascii)
def test_an_address_is_read(url: str) -> None:
    known = connect(url, TIMEOUT_SECONDS).connection_pool.connection_kwargs
    assert {name: known.get(name) for name in ADDRESSES[url]} == ADDRESSES[url]


SECRET = "Zx9Zx9"
REFUSED = [
    "redis:6379",
    "localhost:6379",
    "host",
    " ",
    "redis://",
    "redis:///0",
    "redis://:{}@",
    "redis://:{}@/0",
    "redis://:{}/E3=@host:6379",
    "redis://:1/{}@host:6379",
    "redis://user:1/{}@host:6379",
    "redis://:{}#b@host:6379",
    "redis://:{}?b@host:6379",
    "redis://:{}%ff@host:6379",
    "redis://host#{}",
    "redis://host:{}",
    "redis://host:0",
    "redis://host:65536",
    "redis://host:-1",
    "redis://host/{}",
    "redis://host/-1",
    "redis://host/1/2",
    "redis://host?db={}",
    "redis://host?db=-1",
    "redis://one,two",
    "redis://::1:6379",
    "redis://[::1:6379",
    "redis://host?{}=1",
    "redis://host?ssl=false",
    "rediss://host?ssl_cert_reqs={}",
    "http://:{}@host",
    "redis+redis://:{}@host:6379",
    "unix://",
    "unix://run/redis.sock",
    "cluster+redis://",
    "cluster+redis://host/1",
    "cluster+unix:///run/redis.sock",
    "cluster+rediss://host?ssl_cert_reqs={}",
    "sentinel+redis:///name",
    "sentinel+redis://one,,two/name",
    "sentinel+redis://:{}@one:port/name",
    "sentinel+redis://:{}@one?foo=1",
    "sentinel+redis://:{}@one/name?db=x",
]


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_is_not_clear_is_one_line_at_the_start_and_tells_no_secret(url: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings(redis_url=url.format(SECRET))
    (line,) = faults(raised.value)
    assert line.startswith("TIFFIN_REDIS_URL: must be an address such as redis://host:6379/0")
    assert SECRET not in line
    assert "\n" not in line


def test_a_cluster_has_several_nodes_and_takes_the_options_of_the_query() -> None:
    client = connect("cluster+rediss://:a+b@one:1,[::1]:2,three/0?ssl_cert_reqs=none", TIMEOUT_SECONDS)
    assert [(node.host, node.port) for node in client.startup_nodes] == [("one", 1), ("::1", 2), ("three", 6379)]
    given = {name: client.connection_kwargs[name] for name in ("password", "ssl_cert_reqs")}
    assert given == {"password": "a+b", "ssl_cert_reqs": "none"}


@pytest.mark.parametrize("password", ["A1b+C2d=", "a@b"])
async def test_a_password_with_these_characters_need_not_be_encoded(stopped_redis: RedisServer, password: str) -> None:
    stopped_redis.start("--requirepass", password)
    async with cache_at(f"redis://:{password}@127.0.0.1:{stopped_redis.port}") as cache:
        assert await kept(cache)


async def test_the_query_of_a_cluster_reaches_cache_and_rate_limit(
    stopped_redis: RedisServer, certificate: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with tcp_server(forwarding(stopped_redis.port), tls=context) as port:
        # A cluster announces the addresses of its nodes, here that of the TLS proxy.
        stopped_redis.start(
            *("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{stopped_redis.port}.conf"),
            *("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", str(port)),
        )
        stopped_redis.execute("CLUSTER", "ADDSLOTS", *range(16_384))
        wait_until(lambda: b"cluster_state:ok" in stopped_redis.execute("CLUSTER", "INFO"), START_SECONDS)
        async with cache_at(f"cluster+rediss://127.0.0.1:{port}?ssl_cert_reqs=none&ssl_check_hostname=no") as cache:
            assert await kept(cache)
            limits = [RateLimit(parse("2/hour"), cache.redis, PREFIX) for _ in range(3)]
            assert [(await limit.take("anna")).allowed for limit in limits] == [True, True, False]
            assert cache.redis.circuit_closed


# Sentinels.


def sentinels_of(url: str) -> list[tuple[Any, ...]]:
    """Return host, port, user, password and whether TLS is used, for each sentinel of a URL."""
    pools = [
        sentinel.connection_pool
        for sentinel in connect(url, TIMEOUT_SECONDS).connection_pool.sentinel_manager.sentinels
    ]
    return [
        (
            *(pool.connection_kwargs.get(name) for name in ("host", "port", "username", "password")),
            "ssl_cert_reqs" in pool.connection_kwargs,
        )
        for pool in pools
    ]


@pytest.mark.parametrize(
    ("url", "sentinels"),
    [
        ("sentinel+redis://one,[::1]:1/name", [("one", 26379, None, None, False), ("::1", 1, None, None, False)]),
        ("sentinel+redis://:a+b@[fd00::1]/name", [("fd00::1", 26379, None, "a+b", False)]),
        ("sentinel+rediss://user:pass@one/name?db=2", [("one", 26379, None, "pass", True)]),
        (
            "sentinel+redis://:pass@one/name?sentinel_username=own&sentinel_password=a%2Bb",
            [("one", 26379, "own", "a+b", False)],
        ),
    ],
)
def test_sentinels_get_password_and_tls(url: str, sentinels: list[tuple[Any, ...]]) -> None:
    assert sentinels_of(url) == sentinels


@contextlib.contextmanager
def sentinel_of(master: RedisServer, password: str, *lines: str) -> Iterator[RedisServer]:
    """Run a sentinel that monitors `master`, which requires `password`, as mymaster."""
    configuration = [
        f"sentinel monitor mymaster 127.0.0.1 {master.port} 1",
        f"sentinel auth-pass mymaster {password}",
        *lines,
    ]
    path = master.folder / "sentinel.conf"
    path.write_text("\n".join(configuration) + "\n")
    server = RedisServer(master.folder)
    server.start(str(path), "--sentinel")
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("lines", "query"),
    [
        (["requirepass a+b"], ""),
        ([], ""),
        (["requirepass own"], "?sentinel_password=own"),
        (["user ask on >own +@all"], "?sentinel_username=ask&sentinel_password=own"),
    ],
    ids=["same password", "no password", "another password", "a user"],
)
async def test_a_sentinel_with_a_password_names_the_master(
    stopped_redis: RedisServer, lines: list[str], query: str
) -> None:
    stopped_redis.start("--requirepass", "a+b")
    with sentinel_of(stopped_redis, "a+b", *lines) as sentinel:
        async with cache_at(f"sentinel+redis://:a+b@127.0.0.1:{sentinel.port}/mymaster{query}") as cache:
            assert await kept(cache)
            limits = [RateLimit(parse("1/hour"), cache.redis, PREFIX) for _ in range(2)]
            assert [(await limit.take("anna")).allowed for limit in limits] == [True, False]


async def test_a_sentinel_that_hangs_does_not_hide_the_next(stopped_redis: RedisServer) -> None:
    stopped_redis.start("--requirepass", "a+b")
    with sentinel_of(stopped_redis, "a+b") as hung, sentinel_of(stopped_redis, "a+b") as sentinel:
        hung.freeze()
        hosts = f"127.0.0.1:{hung.port},127.0.0.1:{sentinel.port}"
        async with cache_at(f"sentinel+redis://:a+b@{hosts}/mymaster") as cache:
            await eventually(lambda: kept(cache))


# Permissions.


@contextlib.asynccontextmanager
async def cache_of_user(server: RedisServer, *rules: str) -> Any:
    """Open a cache as a Redis user with these ACL rules only."""
    server.execute("ACL", "SETUSER", "tiffin", "on", ">pass", "~tiffin:*", *rules)
    async with cache_at(f"redis://tiffin:pass@127.0.0.1:{server.port}") as cache:
        yield cache


async def test_a_user_that_may_not_read_still_counts_in_redis(redis_server: RedisServer) -> None:
    async with cache_of_user(redis_server, "+@all", "-mget") as cache:
        assert not await kept(cache)
        assert cache.redis.circuit_closed
        limits = [RateLimit(parse("1/hour"), cache.redis, PREFIX) for _ in range(2)]
        assert [(await limit.take("anna")).allowed for limit in limits] == [True, False]


async def test_a_user_that_may_not_write_still_reads(redis_server: RedisServer) -> None:
    async with cache_at(redis_server.url) as cache:
        assert await kept(cache, b"before")
    async with cache_of_user(redis_server, "+@all", "-set") as cache:
        assert not await kept(cache, b"after")
        assert list(await cache.get([b"before"])) == [b"before"]


async def test_a_user_needs_these_commands(redis_server: RedisServer) -> None:
    commands = "+mget +set +get +ttl +incrby +expire +evalsha +script|load"
    async with cache_of_user(redis_server, *commands.split()) as cache:
        assert await kept(cache)
        limits = [RateLimit(parse("1/hour"), cache.redis, PREFIX) for _ in range(2)]
        assert [(await limit.take("anna")).allowed for limit in limits] == [True, False]


async def test_a_user_that_may_not_ping_is_found_again(redis_server: RedisServer) -> None:
    async with cache_of_user(redis_server, "+@all", "-ping") as cache:
        assert await kept(cache)
        redis_server.freeze()
        assert await cache.get([b"key"]) == {}
        redis_server.thaw()
        await eventually(lambda: cache.get([b"key"]))


# A master that becomes a replica and keeps its connections, while its host name moves to another Redis.


@pytest.fixture
def other_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a second Redis."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_a_master_that_became_a_replica_is_left(redis_server: RedisServer, other_redis: RedisServer) -> None:
    servers = [redis_server]
    with tcp_server(lambda reader, writer: forwarding(servers[-1].port)(reader, writer)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache:
            limit = RateLimit(parse("1000/hour"), cache.redis, PREFIX)
            assert await kept(cache, b"before")
            await limit.take("anna")
            redis_server.execute("REPLICAOF", "127.0.0.1", other_redis.port)
            servers.append(other_redis)

            await eventually(lambda: kept(cache, b"after"))
            assert other_redis.execute("EXISTS", PREFIX + "after") == 1
            await limit.take("anna")
            assert other_redis.execute("KEYS", PREFIX + "limit*")


async def test_the_rate_limit_alone_leaves_a_replica(redis_server: RedisServer, other_redis: RedisServer) -> None:
    servers = [redis_server]
    with tcp_server(lambda reader, writer: forwarding(servers[-1].port)(reader, writer)) as port:
        client = RedisClient(f"redis://127.0.0.1:{port}", TIMEOUT_SECONDS)
        limit = RateLimit(parse("1000/hour"), client, PREFIX)
        await limit.take("anna")
        redis_server.execute("REPLICAOF", "127.0.0.1", other_redis.port)
        servers.append(other_redis)

        async def counted() -> bool:
            await limit.take("anna")
            return bool(other_redis.execute("KEYS", PREFIX + "limit*"))

        await eventually(counted)
        await client.close()


async def test_a_replica_that_has_lost_its_master_is_left(redis_server: RedisServer, other_redis: RedisServer) -> None:
    servers = [redis_server]
    with tcp_server(lambda reader, writer: forwarding(servers[-1].port)(reader, writer)) as port:
        async with cache_at(f"redis://127.0.0.1:{port}") as cache, cache_at(other_redis.url) as other:
            assert await kept(other)
            assert await cache.get([b"key"]) == {}
            redis_server.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
            redis_server.execute("REPLICAOF", "127.0.0.1", free_port())
            servers.append(other_redis)
            await eventually(lambda: cache.get([b"key"]))
    assert sample("tiffin_redis_breaker_open") == 0
