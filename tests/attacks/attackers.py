"""Attacks, and the ways in which attackers send: repeatedly, on as many connections as they like."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field

import h11

from tests.attacks import forms
from tests.attacks.client import exchange
from tests.attacks.targets import Target
from tests.fuzz_requests import written

JSON = b"application/json"
CONNECTIONS = 8
# How long an attacker that was disconnected waits before it reconnects.
RETURN_SECONDS = 0.05
PIECE_BYTES = 2**20
LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

Pieces = Iterable[bytes | memoryview]


@dataclass
class Victim:
    """The server under attack; `answers` counts its responses by status, and connections by what became of them."""

    port: int
    targets: dict[str, Target]
    requests: Sequence[Pieces] = ()
    answers: Counter[str] = field(default_factory=Counter)


def no_requests(targets: dict[str, Target]) -> list[Pieces]:
    """Return no requests, for attacks that generate their bytes as they go."""
    return []


@dataclass(frozen=True)
class Attack:
    """An attack on a server, which runs until it is cancelled.

    `make` generates the requests it needs, beforehand; `env` holds settings of the server.
    """

    name: str
    run: Callable[[Victim], Awaitable[None]]
    make: Callable[[dict[str, Target]], list[Pieces]] = no_requests
    env: dict[str, str] = field(default_factory=dict)


def request(path: str, body: bytes, media_type: bytes = JSON, *headers: tuple[bytes, bytes]) -> list[bytes]:
    """Return a POST request in pieces, without copying the body."""
    framing = (b"Content-Length", b"%d" % len(body))
    return [written(b"POST", path.encode(), [(b"Content-Type", media_type), framing, *headers], b""), body]


def form_request(path: str, body: bytes) -> list[bytes]:
    """Return a POST request with a form."""
    return request(path, body, forms.MEDIA_TYPE)


def parts(pieces: Pieces) -> Pieces:
    """Split pieces into smaller ones of at most PIECE_BYTES."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]


async def flood(victim: Victim, requests: Sequence[Pieces] = (), connections: int = CONNECTIONS) -> None:
    """Send requests in turn, each on a new connection, forever; by default those made beforehand."""
    requests = requests or victim.requests
    turn = iter(range(2**60))

    async def attacker() -> None:
        while True:
            try:
                answer = await exchange(victim.port, parts(requests[next(turn) % len(requests)]))
                victim.answers[str(answer.status) if answer.status else "closed"] += 1
                if not answer.status:
                    await asyncio.sleep(RETURN_SECONDS)
            except (OSError, h11.RemoteProtocolError):
                victim.answers["refused"] += 1
                await asyncio.sleep(RETURN_SECONDS)

    await together(attacker, connections)


async def together(attacker: Callable[[], Coroutine[None, None, None]], count: int) -> None:
    """Run `count` attackers concurrently until all end."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(attacker())


@contextlib.asynccontextmanager
async def connected(victim: Victim) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection, which is reset in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", victim.port)
    try:
        yield reader, writer
    finally:
        # Without a reset, connections in TIME_WAIT would use up the ports of the machine.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        writer.transport.abort()


async def hold(
    victim: Victim,
    connections: int,
    first: bytes,
    then: bytes = b"",
    every_seconds: float = 1.0,
) -> None:
    """Keep `connections` open: send `first`, then `then` repeatedly; reopen those that are closed."""

    async def attacker() -> None:
        while True:
            try:
                async with connected(victim) as (reader, writer):
                    victim.answers["opened"] += 1
                    for piece in parts([first]):
                        writer.write(piece)
                        await writer.drain()
                    await asyncio.gather(trickle(writer, then, every_seconds), note(victim, reader))
            except OSError:
                victim.answers["closed"] += 1
            await asyncio.sleep(RETURN_SECONDS)

    await together(attacker, connections)


async def trickle(writer: asyncio.StreamWriter, data: bytes, every_seconds: float) -> None:
    """Send data every `every_seconds` until the connection is closed."""
    while data:
        await asyncio.sleep(every_seconds)
        writer.write(data)
        await writer.drain()


async def note(victim: Victim, reader: asyncio.StreamReader) -> None:
    """Count responses by status until the connection is closed; then raise ConnectionResetError."""
    while data := await reader.read(2**16):
        for status in data.split(b"HTTP/1.1 ")[1:]:
            victim.answers[status[:3].decode("latin-1")] += 1
    raise ConnectionResetError("closed by the server")
