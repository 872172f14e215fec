"""Fixtures of all tests: a model store and a server, both real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import serving
from tests.support.stores import shipped_store


@pytest.fixture(scope="session")
def store() -> Path:
    """Return a BentoML home with the shipped models, which is kept between test runs."""
    return shipped_store()


@pytest.fixture(scope="session")
def server(store: Path) -> Iterator[str]:
    """Start a server with all models and default settings; yield its address."""
    with serving(store) as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[httpx.Client]:
    """Yield an HTTP client of `server`."""
    with httpx.Client(base_url=server, timeout=30) as client:
        yield client
