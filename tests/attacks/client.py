"""A client that sends arbitrary bytes and judges responses by the contract alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import NamedTuple

import h11

# Errors never echo a whole body.
MAX_ERROR_BYTES = 2**20


class Answer(NamedTuple):
    """A response; status 0 when none came."""

    status: int
    body: bytes = b""
    retry_after: bool = False
    media_type: str = ""


async def exchange(port: int, pieces: Iterable[bytes | memoryview], *, head: bool = False) -> Answer:
    """Send a request on a new connection and return the response, which may come before all pieces are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(receive(reader, head=head))
    try:
        for piece in pieces:
            if answer.done():
                break
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        return await answer
    except ConnectionError:
        return answer.result() if answer.done() and answer.exception() is None else Answer(0)
    finally:
        answer.cancel()
        writer.transport.abort()


async def receive(reader: asyncio.StreamReader, *, head: bool = False) -> Answer:
    """Return the first response on a connection."""
    # h11 parses a response only after a request, which is not sent.
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="HEAD" if head else "POST", target="/", headers=[("Host", "localhost")]))
    connection.send(h11.EndOfMessage())
    status, headers = 0, dict[bytes, bytes]()
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(2**16))
        elif isinstance(event, h11.Response):
            status = event.status_code
            headers = dict(event.headers)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            media_type = headers.get(b"content-type", b"").decode("latin-1")
            return Answer(status, bytes(body), b"retry-after" in headers, media_type)
        elif isinstance(event, h11.ConnectionClosed):
            return Answer(0)


def fault_of(answer: Answer, *, head: bool = False) -> str | None:
    """Return what is wrong with the response to possibly bad input, or None."""
    if answer.status == 503 and not answer.retry_after:
        return "status 503 without Retry-After"
    if answer.status >= 500 and answer.status not in (503, 504):
        return f"status {answer.status}: {answer.body[:500]!r}"
    if answer.status >= 400 and not head and not is_error_body(answer.body):
        return f"status {answer.status} with a body of {len(answer.body):,} bytes: {answer.body[:500]!r}"
    return None


def is_error_body(body: bytes) -> bool:
    """Return whether a body has the form that the contract gives errors."""
    if len(body) > MAX_ERROR_BYTES:
        return False
    try:
        content = json.loads(body)
        entries = content["detail"]
        return (
            set(content) == {"error", "detail"}
            and isinstance(content["error"], str)
            and isinstance(entries, list)
            and all(set(entry) == {"loc", "msg", "type"} for entry in entries)
        )
    except (ValueError, TypeError, KeyError):
        return False
