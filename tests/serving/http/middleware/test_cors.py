"""Cross-origin requests."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from serving.http.errors import error_response
from serving.http.middleware.cors import CorsMiddleware

PAGE = "https://app.example"
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}


def client(*origins: str) -> TestClient:
    async def answer(_: object) -> PlainTextResponse:
        return PlainTextResponse("yes")

    async def fail(_: object) -> PlainTextResponse:
        return error_response(422, "no")  # type: ignore[arg-type, return-value]

    app = Starlette(routes=[Route("/yes", answer, methods=["POST"]), Route("/no", fail, methods=["POST"])])
    return TestClient(CorsMiddleware(app, origins))


@pytest.mark.parametrize("origins", [[PAGE], ["https://other.example", PAGE], ["*"]])
def test_a_page_of_an_allowed_origin_may_ask(origins: list[str]) -> None:
    response = client(*origins).options("/yes", headers={"Origin": PAGE, **PREFLIGHT})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "x-api-key" in response.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize("path", ["/yes", "/no"])
def test_answers_and_errors_may_be_read(path: str) -> None:
    response = client(PAGE).post(path, headers={"Origin": PAGE})
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "X-Request-Id" in response.headers["access-control-expose-headers"]


def test_another_origin_may_not_ask() -> None:
    response = client(PAGE).options("/yes", headers={"Origin": "https://evil.example", **PREFLIGHT})
    assert response.status_code == 400
    assert set(response.json()) == {"error", "detail"}
    assert "access-control-allow-origin" not in response.headers
    assert "access-control-allow-origin" not in client(PAGE).post("/yes", headers={"Origin": "https://x.y"}).headers
