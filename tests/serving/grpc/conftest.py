"""Fixtures of the tests of serving/grpc: a real server with a port for gRPC, and clients."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from loadtest.processes import free_port
from tests.support.grpc_clients import Client, client_of
from tests.support.servers import started_server


@pytest.fixture(scope="package")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run all tests on one event loop: grpc's thread hands events of ended calls to the loop that it was started on."""
    return "asyncio", {"use_uvloop": importlib.util.find_spec("uvloop") is not None}


@pytest.fixture(scope="package")
async def one_loop(anyio_backend: object) -> AsyncIterator[None]:
    """Keep that loop until the last of the tests has ended."""
    yield  # noqa: PT022


@pytest.fixture(scope="package")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="package")
def server(store: Path, grpc_port: int) -> Iterator[str]:
    """Start a server with all models; yield its address over HTTP."""
    with started_server(store, {"TIFFIN_GRPC_PORT": str(grpc_port)}) as server:
        yield server.address


@pytest.fixture(scope="package")
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server, timeout=60) as client:
        yield client


@pytest.fixture
async def client(server: str, grpc_port: int, one_loop: None) -> AsyncIterator[Client]:
    async with client_of(grpc_port) as client:
        yield client
