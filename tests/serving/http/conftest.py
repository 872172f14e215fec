"""Fixtures of the tests of serving/http: the edge around a tiny app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from serving.http.guards import Guards
from tests.support.clocks import Clock
from tests.support.edge import App, edge_around


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def edge(app: App, guards: Guards) -> ASGIApp:
    return edge_around(app, guards)


@pytest.fixture
def client(edge: ASGIApp) -> Iterator[TestClient]:
    with TestClient(edge, raise_server_exceptions=False) as client:
        yield client
