"""Routing by path and method, and the requests that are refused before the app."""

from __future__ import annotations

import pytest
from limits import parse
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys, RateLimit
from serving.http.body import BytesInFlight
from serving.http.guards import Guards
from tests.support.edge import App, edge_around, public_guards
from tests.support.metrics import sample

COUNTED = {"protocol": "rest", "route": "/count", "status": "200", "cache": "hit", "model": "", "version": ""}


@pytest.fixture
def guards() -> Guards:
    return public_guards(max_bytes=2**22)


def test_a_body_reaches_the_app_as_it_is(client: TestClient) -> None:
    assert client.post("/echo", content=b"x" * 100).content == b"x" * 100


def test_the_system_answers_get_requests(client: TestClient) -> None:
    assert client.get("/health").text == "system"


def test_head_is_admitted_where_get_is(client: TestClient) -> None:
    assert client.head("/health").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", b"", 404),
        ("GET", "/echo", b"", 405),
        ("POST", "/health", b"", 405),
        ("POST", "/echo", b"", 400),
        ("POST", "/echo", b"x" * 101, 413),
    ],
)
def test_what_cannot_succeed_does_not_reach_the_app(
    client: TestClient, app: App, method: str, path: str, body: bytes, status: int
) -> None:
    response = client.request(method, path, content=body)
    assert response.status_code == status
    assert set(response.json()) == {"error", "detail"}
    assert app.reached == 0


def test_a_wrong_media_type_does_not_reach_the_app(client: TestClient, app: App) -> None:
    assert client.post("/echo", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415
    assert app.reached == 0


async def parameters(request: Request) -> Response:
    return JSONResponse(request.path_params)


@pytest.mark.parametrize(("path", "status"), [("/jobs/7", 200), ("/jobs/", 404), ("/jobs/7/", 200), ("/jobs/7/8", 404)])
def test_a_path_may_have_parameters(app: App, path: str, status: int) -> None:
    route = Route("/jobs/{id}", parameters, name="/jobs/{id}")
    response = TestClient(edge_around(app, public_guards(), routes=[route])).get(path)
    assert response.status_code == status
    assert status != 200 or response.json() == {"id": "7"}


def test_a_slash_at_the_end_makes_no_difference(client: TestClient) -> None:
    response = client.post("/echo/", content=b"{}", follow_redirects=False)
    assert (response.status_code, response.content) == (200, b"{}")
    assert client.get("/health/").text == "system"
    assert client.get("/echo/").status_code == 405


@pytest.fixture
def aliased(app: App) -> TestClient:
    return TestClient(edge_around(app, public_guards(max_bytes=2**22), aliases={"/short": "/count"}, root_path="/lab"))


@pytest.mark.parametrize("path", ["/short", "/short/", "/lab/short", "/lab/short/"])
def test_an_alias_is_answered_and_cached_as_the_path_itself(aliased: TestClient, path: str) -> None:
    known = aliased.post("/count", content=b"{}")
    before = sample("tiffin_requests_total", **COUNTED)
    response = aliased.post(path, content=b"{}", follow_redirects=False)
    assert (response.status_code, response.content, response.headers["x-cache"]) == (200, known.content, "hit")
    assert sample("tiffin_requests_total", **COUNTED) == before + 1


@pytest.mark.parametrize(
    "path",
    [
        "/short//",
        "//short",
        "/lab//short",
        "/lab/lab/short",
        "/short/x",
        "/SHORT",
        "/%2Fshort",
        "/short%2F%2F",
        "/count//",
    ],
)
def test_what_is_only_like_an_alias_is_another_path(aliased: TestClient, path: str) -> None:
    assert aliased.post(path, content=b"{}").status_code == 404


def test_an_alias_needs_the_key_and_has_the_limits_of_the_path_itself(app: App) -> None:
    limit = RateLimit(parse("2/hour"), None, "test:")
    guards = Guards(ApiKeys(["secret"], None), limit, MemoryCache("response", 0, 180), BytesInFlight(2**24))
    client = TestClient(edge_around(app, guards, aliases={"/short": "/echo"}))
    assert client.post("/short", content=b"{}").status_code == 401
    client.headers["X-API-Key"] = "secret"
    assert client.post("/short/", content=b"x" * 101).status_code == 413
    assert [client.post(path, content=b"{}").status_code for path in ("/short", "/echo")] == [200, 429]


def test_a_path_of_many_slashes_is_none(client: TestClient) -> None:
    assert client.get("/health" + "/" * 60_000).status_code == 404


@pytest.mark.parametrize("path", ["/jobs", "/jobs/{id}"])
def test_a_path_may_have_a_route_for_each_method(app: App, path: str) -> None:
    routes = [Route(path, parameters, methods=[method], name=path) for method in ("GET", "DELETE")]
    client = TestClient(edge_around(app, public_guards(), routes=routes))
    path = path.format(id=7)
    assert [client.get(path).status_code, client.delete(path).status_code] == [200, 200]
    response = client.put(path)
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE, GET")
    assert response.json()["error"] == "PUT is not allowed here, use DELETE, GET"
