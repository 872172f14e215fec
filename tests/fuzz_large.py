"""Fuzz with bodies as large as each route admits, one at a time, while /livez and memory are watched."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import h11

from tests.attacks import forms, json_bodies
from tests.attacks.client import Answer, exchange, fault_of
from tests.attacks.json_bodies import Maker
from tests.attacks.targets import Target
from tests.attacks.watch import (
    FROZEN_SECONDS,
    MAX_MEMORY_BYTES,
    Attempt,
    MemoryWatch,
    Pause,
    PauseWatch,
    json_seconds,
    judged,
)
from tests.fuzz_requests import written

# The server itself times out earlier.
ANSWER_SECONDS = 40.0
# Routes that admit more than this take uploads, which take seconds each.
UPLOAD_BYTES = 64 * 2**20
SMALL_BYTES = 2**20
LEGAL = 3
PIECE_BYTES = 2**20
# Failures after which a route is abandoned for the next.
MAX_FAILURES = 5


class LargeBody(NamedTuple):
    """A body for a route, generated when it is sent; `expected` is its status, or 0 if several are right."""

    kind: str
    size: int
    make: Maker
    expected: int = 0
    chunked: bool = False


class Counts(NamedTuple):
    """How many bodies of 90 to 100 % of its bound each route gets."""

    others: int
    uploads: int

    def of(self, target: Target) -> int:
        """Return the number for a route."""
        return self.others if target.max_body_bytes <= UPLOAD_BYTES else self.uploads

    def total(self, found: list[Target]) -> int:
        """Return the total for all routes."""
        return sum(map(self.of, found))


class Failure(NamedTuple):
    """A body, by path, kind and size in bytes, and what is wrong with its response or its effect on the server."""

    path: str
    kind: str
    size: int
    fault: str

    def __str__(self) -> str:
        return f"{self.path}, {self.kind}, {self.size:,} bytes: {self.fault}"


@dataclass
class Outcome:
    """The result of sending a route its bodies."""

    target: Target
    statuses: Counter[int] = field(default_factory=Counter)
    peak_bytes: int = 0
    slowest: LargeBody | None = None
    pause: Pause = field(default_factory=lambda: Pause(0, 1))
    small_pause_seconds: float = 0
    failures: list[Failure] = field(default_factory=list)
    # Bodies at 90 to 100 % of the bound.
    large: int = 0

    def note(self, body: LargeBody, attempt: Attempt) -> None:
        """Record an attempt."""
        self.statuses[attempt.status] += 1
        if body.size < SMALL_BYTES:
            self.small_pause_seconds = max(self.small_pause_seconds, attempt.pause_seconds)
        if attempt.pause_seconds > self.pause.seconds:
            self.slowest, self.pause = body, Pause(attempt.pause_seconds, 1)


def bodies(target: Target, count: int, number: int) -> Iterator[LargeBody]:
    """Yield bodies of every kind up to 1 MiB, `count` at 90 to 100 % of the route's bound, and two over it.

    The same number generates the same bodies.
    """
    source = forms if target.form else json_bodies
    kinds = source.hostile(target)
    rng = random.Random(number)
    bound = target.max_body_bytes
    if bound > SMALL_BYTES:
        for kind, make in kinds.items():
            yield LargeBody(kind, rng.randint(SMALL_BYTES * 9 // 10, SMALL_BYTES - 1), make)
    for made in range(min(LEGAL, max(1, count // 10))):
        yield LargeBody("legal", rng.randint(bound * 95 // 100, bound), legal_maker(target, made), 200)
    for made in range(count - min(LEGAL, max(1, count // 10))):
        kind = list(kinds)[(number + made) % len(kinds)]
        yield LargeBody(kind, rng.randint(bound * 95 // 100, bound), kinds[kind])
    too_long = kinds["a file without an end" if target.form else "white space"]
    for chunked in (False, True):
        yield LargeBody("too long", bound + 1, lambda size: too_long(size).ljust(size), 413, chunked)


def legal_maker(target: Target, number: int) -> Maker:
    """Return a generator of legal bodies for a route."""
    if target.form:
        return lambda size: forms.legal(target, size, number)
    # Texts of JSON punctuation are legal too, though they look like many values.
    texts = target.fields[target.array].get("items", {}).get("type") == "string"
    item = b'"' + b",:[{" * 2_000 + b'"' if texts and number == 1 else b""
    return lambda size: json_bodies.legal(target, size, item)


def pieces(target: Target, body: bytes, *, chunked: bool) -> Iterator[bytes | memoryview]:
    """Yield the request in pieces."""
    media_type = forms.MEDIA_TYPE if target.form else b"application/json"
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body))
    yield written(b"POST", target.path.encode(), [(b"Content-Type", media_type), framing], b"")
    view = memoryview(body)
    for start in range(0, len(body), PIECE_BYTES):
        piece = view[start : start + PIECE_BYTES]
        if chunked:
            yield b"%x\r\n" % len(piece)
        yield piece
        if chunked:
            yield b"\r\n"
    if chunked:
        yield b"0\r\n\r\n"


async def attempt(port: int, target: Target, large: LargeBody, body: bytes, pauses: PauseWatch) -> Attempt:
    """Send a body once."""
    start = time.perf_counter()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await exchange(port, pieces(target, body, chunked=large.chunked))
        fault = fault_of(answer)
    except TimeoutError:
        answer, fault = Answer(0), f"not answered within {ANSWER_SECONDS:g} seconds"
    except (h11.RemoteProtocolError, OSError) as error:
        answer, fault = Answer(0), f"no answer: {error!r}"
    if fault is None and answer.status == 0:
        fault = "closed without an answer"
    if fault is None and answer.status != (large.expected or answer.status):
        fault = f"status {answer.status} in place of {large.expected}: {answer.body[:500]!r}"
    pause = await asyncio.to_thread(pauses.longest_since, start)
    return Attempt(fault, pause, answer.status)


async def send_to(
    target: Target,
    bodies: Iterator[LargeBody],
    port: int,
    memory: MemoryWatch,
    pauses: PauseWatch,
    noise_seconds: float,
) -> Outcome:
    """Send a route's bodies, one at a time."""
    outcome = Outcome(target)
    memory.peak_bytes = 0
    for large in bodies:
        body = large.make(large.size)
        made, fault = await judged(functools.partial(attempt, port, target, large, body, pauses), body, noise_seconds)
        outcome.note(large, made)
        outcome.large += target.max_body_bytes * 9 // 10 <= len(body) <= target.max_body_bytes
        if fault is not None:
            outcome.failures.append(Failure(target.path, large.kind, len(body), fault))
        if len(outcome.failures) >= MAX_FAILURES or memory.lost or made.pause_seconds >= FROZEN_SECONDS:
            break
    outcome.peak_bytes = memory.sample()
    if outcome.peak_bytes > MAX_MEMORY_BYTES:
        outcome.failures.append(Failure(target.path, "all", 0, f"memory reached {outcome.peak_bytes / 2**20:.0f} MiB"))
    if outcome.slowest is not None:
        outcome.pause = Pause(outcome.pause.seconds, json_seconds(outcome.slowest.make(outcome.slowest.size)))
    return outcome


async def send_large(
    found: list[Target],
    counts: Counts,
    number: int,
    port: int,
    memory: MemoryWatch,
    pauses: PauseWatch,
    noise_seconds: float,
) -> list[Outcome]:
    """Send each route its large bodies, and print its row of the table under HEADING."""
    outcomes = []
    for target in found:
        started = time.monotonic()
        outcome = await send_to(target, bodies(target, counts.of(target), number), port, memory, pauses, noise_seconds)
        outcomes.append(outcome)
        print(f"{row(outcome)} {time.monotonic() - started:.0f} s", flush=True)
        if memory.lost or outcome.pause.seconds >= FROZEN_SECONDS:
            break
    return outcomes


HEADING = """\
| route | bound | bodies at 90 to 100 % | answers by status | peak memory | longest pause of /livez | as a multiple of \
json.loads | by | longest pause of bodies under 1 MiB |
|---|---|---|---|---|---|---|---|---|"""


def row(outcome: Outcome) -> str:
    """Return a route's row of the table under HEADING."""
    cells = [
        f"`{outcome.target.path}`",
        f"{outcome.target.max_body_bytes:,} bytes",
        str(outcome.large),
        ", ".join(f"{status}: {count}" for status, count in sorted(outcome.statuses.items())),
        f"{outcome.peak_bytes / 2**20:.0f} MiB",
        f"{outcome.pause.seconds * 1000:.0f} ms",
        f"{outcome.pause.ratio:.2f}",
        outcome.slowest.kind if outcome.slowest else "",
        f"{outcome.small_pause_seconds * 1000:.0f} ms",
    ]
    return f"| {' | '.join(cells)} |"
