"""Requests that take too long."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from tests.support.edge import App, edge_around, public_guards


async def never() -> Message:
    """Wait forever, as for a client that stays connected and sends nothing."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


def late(body: bytes, seconds: float) -> Receive:
    """Return a client that sends its body so many seconds after the head, and stays connected."""
    coming = [body]

    async def receive() -> Message:
        if not coming:
            return await never()
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": coming.pop()}

    return receive


def test_a_body_has_its_own_time_from_the_head_on() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def use(seconds: float, body_timeout_seconds: float) -> int:
        sent.clear()
        edge = edge_around(App(), public_guards(), timeout_seconds=0.5, body_timeout_seconds=body_timeout_seconds)
        await edge({"type": "http", "method": "POST", "path": "/echo", "headers": []}, late(b"{}", seconds), send)
        return int(sent[0]["status"])

    assert asyncio.run(use(0.7, 30)) == 200
    assert asyncio.run(use(30, 0.1)) == 408


def test_a_body_that_does_not_come_is_the_clients_fault_and_ends_the_connection() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    edge = edge_around(App(), public_guards(), body_timeout_seconds=0.05)
    scope = {"type": "http", "method": "POST", "path": "/hang", "headers": []}

    async def use() -> None:
        await edge(scope, never, send)

    asyncio.run(use())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"within 0.05 seconds" in sent[1]["body"]
