"""Clients that disconnect, simulated by ASGI messages."""

from __future__ import annotations

import asyncio

from starlette.types import Message

from serving.telemetry import metrics
from tests.support.edge import App, edge_around, public_guards

LIMIT_SECONDS = 60.0


async def use(app: App, *messages: Message) -> list[int]:
    """Run a request whose client sends `messages`; return the statuses sent to it."""
    coming = iter(messages)
    statuses: list[int] = []

    async def receive() -> Message:
        return next(coming)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    patience = 2 * LIMIT_SECONDS
    edge = edge_around(app, public_guards(), timeout_seconds=patience, body_timeout_seconds=patience)
    async with asyncio.timeout(LIMIT_SECONDS):
        await edge({"type": "http", "method": "POST", "path": "/hang", "headers": []}, receive, send)
    return statuses


def test_what_a_client_does_not_wait_for_is_given_up(app: App) -> None:
    body, leaving = {"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}
    asyncio.run(use(app, body, leaving))
    assert (app.reached, app.given_up) == (1, 1)


def test_half_a_body_does_not_reach_the_app(app: App) -> None:
    half, leaving = {"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}
    asyncio.run(use(app, half, leaving))
    assert app.reached == 0


def test_an_answer_begins_all_the_same(app: App) -> None:
    # Until a response begins, BentoML keeps the request's state, and the server does not shut down.
    assert asyncio.run(use(app, {"type": "http.disconnect"})) == [499]


def test_a_client_that_leaves_is_counted(app: App) -> None:
    def counted() -> float:
        return metrics.samples().total("tiffin_requests_total", route="/hang", status="499", cache="none")

    before = counted()
    asyncio.run(use(app, {"type": "http.disconnect"}))
    assert counted() == before + 1
