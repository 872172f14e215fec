"""Fixtures of all tests: a model store and a server, both real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import serving
from tests.support.stores import shipped_store

# Files that take longest, in processes of their own from the start: one that began last would be waited for alone.
LONGEST = (
    "tests/loadtest/test_locust.py",
    "tests/test_originals.py",
    "tests/test_shutdown.py",
    "tests/test_redis_faults.py",
    "tests/serving/bento/test_shipped.py",
    "tests/test_limits.py",
    "tests/test_openapi.py",
    "tests/test_expressions.py",
    "tests/test_delivery.py",
    # Of `make slowtest`.
    "tests/packaging/test_bento.py",
    "tests/training/test_training.py",
    "tests/training/test_own_models.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of LONGEST first, file by file."""
    items.sort(key=lambda item: [not item.nodeid.startswith(file) for file in LONGEST])


@pytest.fixture(scope="session")
def store() -> Path:
    """Return a BentoML home with the shipped models, which is kept between test runs."""
    return shipped_store()


@pytest.fixture(scope="session")
def server(store: Path) -> Iterator[str]:
    """Start a server with all models and default settings but for QUIET; yield its address."""
    with serving(store) as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[httpx.Client]:
    """Yield an HTTP client of `server`."""
    with httpx.Client(base_url=server, timeout=30) as client:
        yield client
