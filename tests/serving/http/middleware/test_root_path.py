"""Paths with and without a proxy's prefix."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.support.edge import App, edge_around, public_guards


@pytest.fixture
def client() -> TestClient:
    return TestClient(edge_around(App(), public_guards(), root_path="/project/v1"))


@pytest.mark.parametrize("path", ["/health", "/project/v1/health"])
def test_a_path_is_found_with_the_prefix_and_without_it(client: TestClient, path: str) -> None:
    assert client.get(path).text == "system"


@pytest.mark.parametrize("path", ["/project/health", "/project/v1health", "/project/v12/health", "/v1/health"])
def test_a_part_of_the_prefix_is_none(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_prefix_alone_is_the_page(client: TestClient) -> None:
    response = client.get("/project/v1", follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "/project/v1/")


@pytest.mark.parametrize("prefix", ["", "/project/v1"])
def test_the_app_inside_finds_its_routes(client: TestClient, prefix: str) -> None:
    assert client.post(f"{prefix}/echo", content=b"{}").content == b"{}"
