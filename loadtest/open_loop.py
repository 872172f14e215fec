"""An open loop: requests are sent when their time has come, whether or not those before were answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit


@dataclass
class Arrivals:
    """What became of the requests: seconds until each was answered, by outcome."""

    seconds: float = 0.0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time; the answer's status is the result of `answered`."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[int] | None = None
        self.received = b""
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """Send a request."""
        self.answered = asyncio.get_running_loop().create_future()
        self.received = b""
        self.transport.write(request)  # type: ignore[attr-defined]
        return self.answered

    def data_received(self, data: bytes) -> None:
        """Collect the answer, whose length its head tells."""
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or self.answered is None or self.answered.done():
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length):
            self.answered.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more will come."""
        self.closed = True
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(ConnectionError("the connection was closed"))


async def arrivals(address: str, path: str, bodies: Sequence[bytes], per_second: float, seconds: float) -> Arrivals:
    """Send `per_second` POST requests with JSON bodies for `seconds`, and wait for all answers."""
    parts = urlsplit(address)
    loop = asyncio.get_running_loop()
    seen = Arrivals()
    idle: list[Connection] = []

    async def one(body: bytes, due: float) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        try:
            # Servers close what has been idle for some seconds.
            while idle and idle[-1].closed:
                idle.pop()
            if idle:
                connection = idle.pop()
            else:
                host, port = parts.hostname or "127.0.0.1", parts.port or 80
                _, connection = await loop.create_connection(Connection, host, port)
            sent = time.perf_counter()
            status = await asyncio.wait_for(connection.ask(request), 30)
        except (OSError, TimeoutError) as error:
            seen.failed.append(repr(error))
            return
        # From when it was due: a client that cannot keep up must not hide it.
        took = time.perf_counter() - min(sent, due + 0.01)
        idle.append(connection)
        if status == HTTPStatus.OK:
            seen.accepted.append(took)
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            seen.refused.append(took)
        else:
            seen.failed.append(str(status))

    started = time.perf_counter()
    tasks = set()
    count = int(per_second * seconds)
    for number in range(count):
        due = started + number / per_second
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(bodies[number % len(bodies)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(set(tasks))
    seen.seconds = time.perf_counter() - started
    return seen
