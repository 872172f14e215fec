"""Fuzzing: sends a server process what nobody should send, and looks for anything but a proper answer.

Run as `python -m tests.fuzz --requests 100000`. It ends with 1 on a status of 500 or more, on no answer,
on an error that is not `{"error": str, "detail": [...]}`, on a leak of memory or file descriptors, and when
the server answers otherwise after it than before. The same seed makes the same requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import h11
import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz_requests import FuzzRequest, requests
from tests.fuzz_values import Json
from tests.process import SMALL_CACHES, WatchedServer, known_answers, same, watched

CONNECTIONS = 16
# Requests that hypothesis makes in one go, while those of the last go are sent.
BLOCK = 500
ANSWER_SECONDS = 15.0
# So long an answer is awaited where the server may wait for more of the request.
PATIENCE_SECONDS = 0.2
SETTLE_SECONDS = 30.0
WARM_UP = 0.2
MAX_GROWTH = 0.1
MAX_FAILURES = 20
# Of uvicorn, to what is not HTTP; no application sees it.
NOT_HTTP = b"Invalid HTTP request received."


class Answer(NamedTuple):
    """What came back; status 0 when nothing did."""

    status: int
    body: bytes = b""


class Failure(NamedTuple):
    """A request and what is wrong with its answer."""

    request: FuzzRequest
    fault: str


def block(document: Json, number: int, count: int) -> list[FuzzRequest]:
    """`count` requests, the same for the same number."""
    made: list[FuzzRequest] = []

    @seed(number)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(document))
    def collect(request: FuzzRequest) -> None:
        made.append(request)

    collect()
    return made[:count]


async def send(port: int, request: FuzzRequest) -> Answer:
    """The answer to a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in request.pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        return await receive(reader, head=request.head)
    except ConnectionError:
        return Answer(0)
    finally:
        writer.transport.abort()


async def receive(reader: asyncio.StreamReader, *, head: bool) -> Answer:
    """The first answer on a connection."""
    # h11 reads answers only to a request of its own, which stays here.
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="HEAD" if head else "POST", target="/", headers=[("Host", "localhost")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(2**16))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, body)
        elif isinstance(event, h11.ConnectionClosed):
            return Answer(0)


async def fault(port: int, request: FuzzRequest, statuses: Counter[int]) -> str | None:
    """What is wrong with the answer to a request."""
    seconds = ANSWER_SECONDS if request.answered else PATIENCE_SECONDS
    try:
        async with asyncio.timeout(seconds):
            answer = await send(port, request)
    except TimeoutError:
        return f"not answered within {seconds:g} seconds" if request.answered else None
    except h11.RemoteProtocolError as error:
        # Without a whole answer the connection may be closed.
        return f"not HTTP: {error}" if request.answered or "without sending" not in str(error) else None
    statuses[answer.status] += 1
    if answer.status == 0:
        return "closed without an answer" if request.answered else None
    if answer.status >= 500:
        return f"status {answer.status}: {answer.body[:500]!r}"
    if answer.status >= 400 and not request.head and not is_error_body(answer.body):
        return f"status {answer.status} with the body {answer.body[:500]!r}"
    return None


def is_error_body(body: bytes) -> bool:
    """Whether it is the body that the contract gives to errors."""
    if body == NOT_HTTP:
        return True
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


async def send_all(port: int, batch: Iterable[FuzzRequest], statuses: Counter[int]) -> list[Failure]:
    """Send requests over CONNECTIONS connections at a time; those that fail."""
    waiting = iter(batch)
    failures = []

    async def sender() -> None:
        for request in waiting:
            wrong = await fault(port, request, statuses)
            if wrong is not None:
                failures.append(Failure(request, wrong))

    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))
    return failures


async def fuzz(server: WatchedServer, document: Json, first_seed: int, count: int) -> tuple[list[Failure], int]:
    """Send `count` requests; those that fail, and the server's memory after the warm-up."""
    statuses: Counter[int] = Counter()
    failures: list[Failure] = []
    memory = 0
    started = time.monotonic()
    ready = await asyncio.to_thread(block, document, first_seed * 10_000, BLOCK)
    for done in range(0, count, BLOCK):
        making = asyncio.to_thread(block, document, first_seed * 10_000 + done // BLOCK + 1, BLOCK)
        ready, wrong = await asyncio.gather(making, send_all(server.port, ready[: count - done], statuses))
        failures += wrong
        if not memory and done + BLOCK >= WARM_UP * count:
            memory = server.memory_bytes()
        rate = (done + BLOCK) / (time.monotonic() - started)
        print(f"{done + BLOCK:,} requests, {rate:.0f}/s, {server.memory_bytes() / 2**20:.0f} MiB", flush=True)
        if len(failures) >= MAX_FAILURES:
            break
    print("answers by status, 0 for none:", dict(sorted(statuses.items())))
    return failures, memory


def report(failure: Failure, folder: Path) -> None:
    """Print a failure, and keep its request."""
    file = Path(tempfile.mkstemp(prefix="request-", dir=folder)[1])
    file.write_bytes(b"".join(failure.request.pieces))
    print(f"\n{failure.request.kind}: {failure.fault}\nsent in {len(failure.request.pieces)} pieces, also in {file}:")
    for piece in failure.request.pieces:
        print(piece if len(piece) < 3_000 else piece[:3_000] + b"...")


def settled(server: WatchedServer, open_files: int) -> bool:
    """Whether the server closes what the requests left open."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while server.open_files() > open_files:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    faults = []
    # A small limit, so that small bodies go over it.
    with (
        watched({**SMALL_CACHES, "MAX_BODY_BYTES": str(2**18)}) as server,
        httpx.Client(base_url=server.address, timeout=30) as client,
    ):
        expected = known_answers(client)
        open_files = server.open_files()
        document = client.get("/docs.json").json()
        failures, memory = asyncio.run(fuzz(server, document, arguments.seed, arguments.requests))
        if not settled(server, open_files):
            faults.append(f"{server.open_files()} open files, {open_files} before")
        grown = server.memory_bytes() / memory - 1
        print(f"memory grew by {grown:.1%} after the warm-up")
        if grown > MAX_GROWTH:
            faults.append(f"memory grew by {grown:.1%}, at most {MAX_GROWTH:.0%} is allowed")
        try:
            if not same(known_answers(client), expected) or client.get("/readyz").status_code != 200:
                faults.append("the server answers otherwise than before")
        except (AssertionError, httpx.TransportError) as error:
            faults.append(f"the server does not answer as before: {error!r}")
        if failures or faults:
            server.print_faults()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) if failures else Path()
    for failure in failures:
        report(failure, folder)
    for line in faults:
        print(line)
    print("failed" if failures or faults else "passed")
    return 1 if failures or faults else 0


if __name__ == "__main__":
    sys.exit(main())
