"""Redis as a process, in several forms, and what asynchronous tests run on."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clocks import START_SECONDS, wait_until
from tests.support.redis_servers import RedisServer


@pytest.fixture
def stopped_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has not been started."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def redis_server(stopped_redis: RedisServer) -> RedisServer:
    """A Redis that runs."""
    stopped_redis.start()
    return stopped_redis


@pytest.fixture
def cluster(stopped_redis: RedisServer) -> RedisServer:
    """A cluster of one node."""
    stopped_redis.start("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{stopped_redis.port}.conf")
    stopped_redis.ask("CLUSTER", "ADDSLOTS", *range(16_384))
    wait_until(lambda: b"cluster_state:ok" in stopped_redis.ask("CLUSTER", "INFO"), START_SECONDS)
    return stopped_redis


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate with its key."""
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
    """What asynchronous tests run on: the event loop that the server has."""
    return "asyncio", {"use_uvloop": importlib.util.find_spec("uvloop") is not None}
