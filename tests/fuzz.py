"""Fuzz a server process: send it malformed and hostile requests, and report everything but a proper response.

Run as `python -m tests.fuzz --requests 100000`. The exit code is 1 if any request gets no response, a 5xx other than
503 and 504, a response that the OpenAPI document does not describe, or an error other than
`{"error": str, "detail": [...]}`; if the server leaks memory, file descriptors or temporary files; if a body takes it
over 2 GiB or blocks it for long; or if it answers known requests differently afterwards. The same seed generates the
same requests.
"""

from __future__ import annotations

import argparse
import asyncio
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
import hypothesis
import psutil
from hypothesis import HealthCheck, Phase

from tests.attacks.client import exchange, fault_of
from tests.attacks.targets import targets
from tests.attacks.watch import MemoryWatch, PauseWatch
from tests.fuzz_answers import DocumentedAnswers
from tests.fuzz_large import HEADING, Counts, send_large
from tests.fuzz_requests import FuzzRequest, requests
from tests.fuzz_values import Json
from tests.support.watched import SMALL_CACHES, WatchedServer, known_answers, same, watched

CONNECTIONS = 16
# Requests that hypothesis generates at a time, while the block before them is sent.
BLOCK = 500
ANSWER_SECONDS = 15.0
# How long to wait for a response when the server may still be waiting for the rest of the request.
PATIENCE_SECONDS = 0.2
SETTLE_SECONDS = 30.0
WARM_UP = 0.2
MAX_GROWTH = 0.1
MAX_FAILURES = 20


class Failure(NamedTuple):
    """A request and what is wrong with its response."""

    request: FuzzRequest
    fault: str


def block(document: Json, number: int, count: int) -> list[FuzzRequest]:
    """Generate `count` requests, the same ones for the same `number`."""
    made: list[FuzzRequest] = []

    @hypothesis.seed(number)
    @hypothesis.settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(requests(document))
    def collect(request: FuzzRequest) -> None:
        made.append(request)

    collect()
    return made[:count]


async def fault(port: int, request: FuzzRequest, documented: DocumentedAnswers, statuses: Counter[int]) -> str | None:
    """Send a request; return what is wrong with its response, or None."""
    seconds = ANSWER_SECONDS if request.answered else PATIENCE_SECONDS
    try:
        async with asyncio.timeout(seconds):
            answer = await exchange(port, request.pieces, head=request.head)
    except TimeoutError:
        return f"not answered within {seconds:g} seconds" if request.answered else None
    except h11.RemoteProtocolError as error:
        # After an incomplete request the server may close the connection.
        return f"not HTTP: {error}" if request.answered or "without sending" not in str(error) else None
    statuses[answer.status] += 1
    if answer.status == 0:
        return "closed without an answer" if request.answered else None
    return fault_of(answer, head=request.head) or documented.fault_of(request.kind, answer)


async def send_all(
    port: int, batch: Iterable[FuzzRequest], documented: DocumentedAnswers, statuses: Counter[int]
) -> list[Failure]:
    """Send requests, CONNECTIONS at a time, each on its own connection; return the failures."""
    waiting = iter(batch)
    failures = []

    async def sender() -> None:
        for request in waiting:
            wrong = await fault(port, request, documented, statuses)
            if wrong is not None:
                failures.append(Failure(request, wrong))

    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))
    return failures


async def fuzz(server: WatchedServer, document: Json, first_seed: int, count: int) -> tuple[list[Failure], int]:
    """Send `count` requests; return the failures, and the server's memory in bytes after the warm-up."""
    documented = DocumentedAnswers(document)
    statuses: Counter[int] = Counter()
    failures: list[Failure] = []
    memory = 0
    started = time.monotonic()
    ready = await asyncio.to_thread(block, document, first_seed * 10_000, BLOCK)
    for done in range(0, count, BLOCK):
        making = asyncio.to_thread(block, document, first_seed * 10_000 + done // BLOCK + 1, BLOCK)
        sending = send_all(server.port, ready[: count - done], documented, statuses)
        ready, wrong = await asyncio.gather(making, sending)
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
    """Print a failure and write its request to a file in `folder`."""
    file = Path(tempfile.mkstemp(prefix="request-", dir=folder)[1])
    file.write_bytes(b"".join(failure.request.pieces))
    print(f"\n{failure.request.kind}: {failure.fault}\nsent in {len(failure.request.pieces)} pieces, also in {file}:")
    for piece in failure.request.pieces:
        print(piece if len(piece) < 3_000 else piece[:3_000] + b"...")


def small_bodies(server: WatchedServer, document: Json, seed: int, count: int) -> tuple[list[Failure], list[str]]:
    """Send requests generated from the document; return those that fail, and any other faults."""
    failures, warm = asyncio.run(fuzz(server, document, seed, count))
    grown = server.memory_bytes() / warm - 1
    print(f"memory grew by {grown:.1%} after the warm-up")
    faults = [] if grown <= MAX_GROWTH else [f"memory grew by {grown:.1%}, at most {MAX_GROWTH:.0%} is allowed"]
    return failures, faults


def large_bodies(server: WatchedServer, document: Json, seed: int, counts: Counts) -> list[str]:
    """Send bodies as large as each route admits; return the faults."""
    with MemoryWatch(server.memory_bytes, server.kill) as memory, PauseWatch(server.port) as pauses:
        noise = pauses.noise_seconds()
        print(f"large bodies, each alone; a pause of {noise * 1000:.0f} ms may be noise\n{HEADING}")
        sending = send_large(targets(document), counts, seed, server.port, memory, pauses, noise)
        outcomes = asyncio.run(sending)
    ended = ["a process of the server has ended, or was ended at 4 GiB"] if memory.lost else []
    return [str(failure) for outcome in outcomes for failure in outcome.failures] + pauses.failures + ended


class Traces:
    """Open and temporary files that requests may leave behind; `folder` is the server's temporary folder."""

    def __init__(self, server: WatchedServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.before = self.now()

    def now(self) -> tuple[int, set[Path]]:
        """Return the number of open files, and the temporary files."""
        # The server reuses empty folders.
        return self.server.open_files(), {path for path in self.folder.rglob("*") if path.is_file()}

    def left(self) -> list[str]:
        """Wait for the server to clean up, for SETTLE_SECONDS at most; return what it left behind."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            (opened, files), (opened_before, files_before) = self.now(), self.before
            if opened <= opened_before and files <= files_before:
                return []
            if time.monotonic() > deadline:
                left = sorted(map(str, files - files_before))
                return [
                    f"{opened} open files, {opened_before} before; {len(left)} temporary files are left: {left[:5]}"
                ]
            time.sleep(0.5)


def changed(client: httpx.Client, expected: list[Json]) -> list[str]:
    """Send known requests again; return what is wrong with the responses."""
    try:
        if same(known_answers(client), expected) and client.get("/readyz").status_code == 200:
            return []
        return ["the server answers otherwise than before"]
    except (AssertionError, httpx.TransportError) as error:
        return [f"the server does not answer as before: {error!r}"]


def main() -> int:
    """Run the fuzz and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=50, help="bodies at 90 to 100 %% of its bound for each route")
    parser.add_argument("--uploads", type=int, default=50, help="the same for routes that take more than 64 MiB")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    counts = Counts(arguments.large, arguments.uploads)
    with (
        tempfile.TemporaryDirectory() as temporary,
        watched(SMALL_CACHES | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)) as server,
        httpx.Client(base_url=server.address, timeout=30) as client,
    ):
        expected = known_answers(client)
        traces = Traces(server, Path(temporary))
        document = client.get("/docs.json").json()
        count = max(BLOCK, arguments.requests - counts.total(targets(document)))
        failures, faults = small_bodies(server, document, arguments.seed, count)
        faults += large_bodies(server, document, arguments.seed, counts)
        try:
            faults += traces.left()
        except psutil.NoSuchProcess:
            faults.append("a process of the server has ended, or was ended at 4 GiB")
        faults += changed(client, expected)
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
