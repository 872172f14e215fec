"""The edge around a tiny app, with the guards of the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from serving.http.edge import Edge
from serving.http.endpoints import Guards
from tests.support.clocks import Clock
from tests.support.edge import App, edge_around


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def edge(app: App, guards: Guards) -> Edge:
    return edge_around(app, guards)


@pytest.fixture
def client(edge: Edge) -> Iterator[TestClient]:
    with TestClient(edge, raise_server_exceptions=False) as client:
        yield client
