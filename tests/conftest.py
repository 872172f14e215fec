"""Fixtures of all tests: a model store and a server, both real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.job_stores import FolderStores, Stores, shared_stores
from tests.support.servers import serving
from tests.support.stores import shipped_store

# Files that take longest, in processes of their own from the start: one that began last would be waited for alone.
LONGEST = (
    "tests/loadtest/test_locust.py",
    "tests/test_originals.py",
    "tests/test_shutdown.py",
    "tests/test_redis_faults.py",
    "tests/serving/grpc/test_access.py",
    "tests/test_limits.py",
    "tests/test_explanations.py",
    "tests/test_jobs.py",
    "tests/test_openapi.py",
    "tests/serving/bento/test_start.py",
    "tests/test_expressions.py",
    # Of `make slowtest`.
    "tests/packaging/test_bento.py",
    "tests/training/test_training.py",
    "tests/training/test_own_models.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the environment that has requirements/stores.txt."""
    parser.addoption("--stores", help="folder of the environment with PostgreSQL and a stand-in for S3")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs stores of jobs on a folder, and with `--stores` on shared ones, too."""
    if "stores" in metafunc.fixturenames:
        both = metafunc.config.getoption("--stores") and not metafunc.definition.get_closest_marker("folder_only")
        kinds = ["folder", "shared"] if both else ["folder"]
        metafunc.parametrize("stores", kinds, indirect=True, scope="module")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of LONGEST first, file by file."""
    items.sort(key=lambda item: [not item.nodeid.startswith(file) for file in LONGEST])


@pytest.fixture(scope="module")
def stores(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """Yield stores of one kind."""
    if request.param == "folder":
        yield FolderStores(tmp_path_factory.mktemp("jobs"))
    else:
        with shared_stores(Path(request.config.getoption("--stores"))) as shared:
            yield shared


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
