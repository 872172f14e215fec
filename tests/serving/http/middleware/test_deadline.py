"""Requests that take too long."""

from __future__ import annotations

import asyncio

from starlette.types import Message

from tests.support.edge import App, edge_around, public_guards


async def never() -> Message:
    """Wait forever, as for a client that stays connected and sends nothing."""
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


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
