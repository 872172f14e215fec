"""Fixtures of the tests of serving/: Redis, a store of two versions, and the event loop of asynchronous tests."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clocks import START_SECONDS, wait_until
from tests.support.redis_servers import RedisServer
from tests.support.stores import put_versions


@pytest.fixture
def stopped_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a Redis that has not been started."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def redis_server(stopped_redis: RedisServer) -> RedisServer:
    """Start a Redis."""
    stopped_redis.start()
    return stopped_redis


@pytest.fixture
def cluster(stopped_redis: RedisServer) -> RedisServer:
    """Start a Redis Cluster of one node."""
    stopped_redis.start("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{stopped_redis.port}.conf")
    stopped_redis.execute("CLUSTER", "ADDSLOTS", *range(16_384))
    wait_until(lambda: b"cluster_state:ok" in stopped_redis.execute("CLUSTER", "INFO"), START_SECONDS)
    return stopped_redis


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a PEM file with a self-signed certificate and its key."""
    path = tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    subprocess.run(
        [
            *command.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(path),
            "-out",
            str(tmp_path / "own"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "own").read_bytes())
    return path


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run asynchronous tests on the server's event loop."""
    return "asyncio", {"use_uvloop": importlib.util.find_spec("uvloop") is not None}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an empty BentoML home."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def newest(home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Put breast_cancer and an older version `opposite` into the store of `home`; return the newest version."""
    return put_versions(home, tmp_path_factory.mktemp("entries"))
