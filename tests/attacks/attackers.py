"""What an attack is, and how attackers send: again and again, on as many connections as they like."""

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
# An attacker that is thrown out comes back after so long.
RETURN_SECONDS = 0.05
PIECE_BYTES = 2**20
LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

Pieces = Iterable[bytes | memoryview]


@dataclass
class Victim:
    """The server as attackers see it; `answers` counts what it gave them, by status or by what happened."""

    port: int
    targets: dict[str, Target]
    requests: Sequence[Pieces] = ()
    answers: Counter[str] = field(default_factory=Counter)


def no_requests(targets: dict[str, Target]) -> list[Pieces]:
    """Return nothing, for attacks that make their bytes as they go."""
    return []


@dataclass(frozen=True)
class Attack:
    """Something that is done to a server until it is cancelled.

    `make` makes the requests that it needs, beforehand; `env` are settings of the server.
    """

    name: str
    run: Callable[[Victim], Awaitable[None]]
    make: Callable[[dict[str, Target]], list[Pieces]] = no_requests
    env: dict[str, str] = field(default_factory=dict)


def request(path: str, body: bytes, media_type: bytes = JSON, *headers: tuple[bytes, bytes]) -> list[bytes]:
    """Return a POST request in pieces; the body is not copied."""
    framing = (b"Content-Length", b"%d" % len(body))
    return [written(b"POST", path.encode(), [(b"Content-Type", media_type), framing, *headers], b""), body]


def form_request(path: str, body: bytes) -> list[bytes]:
    """Return a POST request with a form."""
    return request(path, body, forms.MEDIA_TYPE)


def parts(pieces: Pieces) -> Pieces:
    """Yield what pieces hold in smaller ones."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), PIECE_BYTES):
            yield view[start : start + PIECE_BYTES]


async def flood(victim: Victim, requests: Sequence[Pieces] = (), connections: int = CONNECTIONS) -> None:
    """Send requests in turn, those made beforehand by default, each on a connection of its own, for ever."""
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
    """Have `count` attackers at work until all end."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(attacker())


@contextlib.asynccontextmanager
async def connected(victim: Victim) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection, which is closed without a word in the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", victim.port)
    try:
        yield reader, writer
    finally:
        # By a reset; else so many connections would use up the ports of this machine.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        writer.transport.abort()


async def hold(
    victim: Victim,
    connections: int,
    first: bytes,
    then: bytes = b"",
    every_seconds: float = 1.0,
) -> None:
    """Keep `connections` open: send `first`, then `then` again and again; those that are closed come back."""

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
    """Send data again and again until the connection is closed."""
    while data:
        await asyncio.sleep(every_seconds)
        writer.write(data)
        await writer.drain()


async def note(victim: Victim, reader: asyncio.StreamReader) -> None:
    """Note the status lines that come until the connection is closed; then ConnectionError."""
    while data := await reader.read(2**16):
        for status in data.split(b"HTTP/1.1 ")[1:]:
            victim.answers[status[:3].decode("latin-1")] += 1
    raise ConnectionResetError("closed by the server")
