"""Request ids, and the headers of every response."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from serving.http.guards import Guards
from serving.http.lifecycle import Lifecycle
from tests.support.edge import App, edge_around, public_guards

MADE_ID = re.compile("[0-9a-f]{32}")


@pytest.fixture
def guards() -> Guards:
    return public_guards(max_bytes=2**22)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/nowhere"),
        ("GET", "/echo"),
        ("POST", "/echo"),
        ("POST", "/bad"),
        ("POST", "/fail"),
        ("POST", "/hang"),
    ],
)
def test_every_answer_has_the_id_of_its_request(client: TestClient, method: str, path: str) -> None:
    response = client.request(method, path, content=b"{}", headers={"X-Request-ID": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"


def test_the_app_knows_the_id(client: TestClient) -> None:
    assert client.post("/id", content=b"{}", headers={"X-Request-ID": "abc-1"}).text == "abc-1"


def test_a_known_answer_has_the_id_of_its_own_request(client: TestClient) -> None:
    for name in ("first", "second"):
        response = client.post("/count", content=b"{}", headers={"X-Request-ID": name})
        assert response.headers.get_list("x-request-id") == [name]


def test_each_request_without_an_id_gets_its_own(client: TestClient) -> None:
    first, second = (client.get("/health").headers["x-request-id"] for _ in range(2))
    assert MADE_ID.fullmatch(first)
    assert first != second


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"caf\xc3\xa9", b'"quoted"', b"{}"])
def test_a_bad_id_is_replaced(client: TestClient, given: bytes) -> None:
    response = client.get("/health", headers={b"X-Request-ID": given})
    assert MADE_ID.fullmatch(response.headers["x-request-id"])


def test_connections_are_not_kept_once_the_worker_is_to_end(app: App) -> None:
    lifecycle = Lifecycle(loaded=True)
    client = TestClient(edge_around(app, public_guards(), lifecycle=lifecycle))
    assert "connection" not in client.post("/echo", content=b"{}").headers
    lifecycle.draining = True
    for path in ("/echo", "/nowhere"):
        assert client.post(path, content=b"{}").headers["connection"] == "close"
