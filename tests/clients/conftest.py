"""The servers that `python -m tests.clients` has started, and clients of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.support.options import option

OPTIONS = ("server", "server-grpc", "server-python", "guarded", "guarded-grpc", "key")


@dataclass(frozen=True)
class Server:
    """The addresses of a server: a URL, and host and port of gRPC."""

    url: str
    grpc: str

    @property
    def http(self) -> str:
        """Host and port of HTTP."""
        return self.url.removeprefix("http://")


def pytest_addoption(parser: pytest.Parser) -> None:
    for name in OPTIONS:
        parser.addoption(f"--{name}", help="see python -m tests.clients")


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Server:
    """Return the server that has all models and asks for no key."""
    return Server(option(pytestconfig, "server", "clients"), option(pytestconfig, "server-grpc", "clients"))


@pytest.fixture(scope="session")
def guarded(pytestconfig: pytest.Config) -> Server:
    """Return the server that asks for a key and may load models: breast_cancer, and its version `opposite`."""
    return Server(option(pytestconfig, "guarded", "clients"), option(pytestconfig, "guarded-grpc", "clients"))


@pytest.fixture
def key(pytestconfig: pytest.Config) -> dict[str, str]:
    """Return the header, or metadata, with which `guarded` admits a request; tritonclient adds its own to it."""
    return {"x-api-key": option(pytestconfig, "key", "clients")}


@pytest.fixture(scope="session")
def server_python(pytestconfig: pytest.Config) -> str:
    """Return the Python of the servers' environment, which has what this one lacks."""
    return option(pytestconfig, "server-python", "clients")


@pytest.fixture(scope="session")
def predict(server: Server) -> Iterator[httpx.Client]:
    """Yield a client of the routes that are not the protocol's, by which answers are known."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
