"""The edge around a tiny app."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serving.edge import Edge, Endpoint


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


async def bad_request(_: Request) -> Response:
    detail = [{"loc": ["root", 2], "msg": "no", "type": "number", "url": "https://example.org", "input": "secret"}]
    return JSONResponse({"error": "1 validation error", "detail": detail}, status_code=400)


async def hang(_: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


async def busy(_: Request) -> Response:
    return PlainTextResponse("busy", status_code=503, headers={"Retry-After": "3"})


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = Starlette(
        routes=[
            Route("/echo", echo, methods=["POST"]),
            Route("/bad", bad_request, methods=["POST"]),
            Route("/busy", busy, methods=["POST"]),
            Route("/hang", hang, methods=["POST"]),
        ]
    )
    system = Starlette(routes=[Route("/health", lambda _: PlainTextResponse("system"))])
    endpoints = {path: Endpoint("POST", max_body_bytes=100) for path in ("/echo", "/fail", "/bad", "/busy", "/hang")}
    endpoints["/health"] = Endpoint("GET")

    async def fallible(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/fail":
            raise RuntimeError("secret")
        await app(scope, receive, send)

    edge = Edge(fallible, system, endpoints, passed_on=("/static/",), timeout_seconds=0.2)
    with TestClient(edge, raise_server_exceptions=False) as client:
        yield client


def test_a_body_reaches_the_app_as_it_is(client: TestClient) -> None:
    assert client.post("/echo", content=b"x" * 100).content == b"x" * 100


def test_the_system_answers_get_requests(client: TestClient) -> None:
    assert client.get("/health").text == "system"


def test_an_exception_becomes_500_without_its_message(client: TestClient) -> None:
    response = client.post("/fail", content=b"{}")
    assert response.status_code == 500
    assert response.json() == {"error": "internal error", "detail": []}


def test_a_refusal_by_the_schema_becomes_422_without_the_input(client: TestClient) -> None:
    response = client.post("/bad", content=b"{}")
    assert response.status_code == 422
    assert response.json()["detail"] == [{"loc": ["items", 2], "msg": "no", "type": "number"}]


def test_an_error_keeps_its_status_and_retry_after(client: TestClient) -> None:
    response = client.post("/busy", content=b"{}")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "3"
    assert response.json() == {"error": "service unavailable", "detail": []}


def test_what_takes_too_long_is_504(client: TestClient) -> None:
    response = client.post("/hang", content=b"{}")
    assert response.status_code == 504
    assert response.json() == {"error": "not answered within 0.2 seconds", "detail": []}


def test_a_body_over_the_limit_does_not_reach_the_app(client: TestClient) -> None:
    assert client.post("/echo", content=b"x" * 101).status_code == 413


def test_head_is_admitted_where_get_is(client: TestClient) -> None:
    assert client.head("/health").status_code == 200
