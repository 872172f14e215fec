"""Errors raised by a middleware itself."""

from __future__ import annotations

import logging

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from serving.http.lifecycle import Lifecycle
from serving.http.middleware.guard import GuardMiddleware
from serving.http.middleware.request_context import RequestContextMiddleware


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("secret")


async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("answered")(scope, receive, send)
    raise RuntimeError("secret")


async def socket(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "other"})
    await send({"type": "websocket.close"})


def test_it_is_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "tiffin.edge"):
        response = TestClient(GuardMiddleware(fail, fail)).get("/path")
    assert (response.status_code, response.json()) == (500, {"error": "internal error", "detail": []})
    assert "GET /path failed in a middleware" in caplog.text


def test_an_answer_that_has_begun_stands() -> None:
    app = GuardMiddleware(RequestContextMiddleware(fail_late, 60, Lifecycle()), fail)
    assert TestClient(app).get("/").text == "answered"


def test_what_is_not_http_goes_elsewhere() -> None:
    with TestClient(GuardMiddleware(fail, socket)).websocket_connect("/") as session:
        assert session.receive_text() == "other"
