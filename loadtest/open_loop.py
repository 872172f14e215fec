"""Offer load in an open loop: requests are sent when they are due, whether or not earlier ones were answered.

python -m loadtest.open_loop --model sentiment --rate 100 --seconds 30 [--arrivals poisson|gamma|even] [--cv 3]

Prints how long answers took from when their request was due. Exits with 1 if a request failed, a refusal not counting,
and with 2 if the server is not ready.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np

from loadtest import inputs
from loadtest.inputs import Request
from loadtest.openapi import ServerError, get, tls_context
from loadtest.profiles import CACHE_RATE, POOL

ANSWER_SECONDS = 30.0
REFUSALS = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)

Outcome = TypeVar("Outcome")


@dataclass
class Arrivals:
    """The outcomes of requests, with the seconds from when each was due until it was answered.

    `late` holds the seconds from when each was due until it was sent, which show whether the client kept up.
    """

    seconds: float = 0.0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


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
        """Send a request and return the future of its answer's status."""
        self.answered = asyncio.get_running_loop().create_future()
        self.received = b""
        self.transport.write(request)  # type: ignore[attr-defined]
        return self.answered

    def data_received(self, data: bytes) -> None:
        """Collect the answer, whose head tells its length."""
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found or self.answered is None or self.answered.done():
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) >= int(length):
            self.answered.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """Mark the connection as closed; a request that waits for its answer fails with ConnectionError."""
        self.closed = True
        if self.answered is not None and not self.answered.done():
            self.answered.set_exception(ConnectionError("the connection was closed"))


def due_times(per_second: float, seconds: float, cv: float, seed: int | None = None) -> list[float]:
    """Return when requests are due, in seconds from the start.

    Intervals are independent and gamma-distributed with mean 1 / `per_second` and the coefficient of variation `cv`
    (shape 1 / cv^2): 0 is even spacing, 1 a Poisson process, more comes in bursts.
    """
    count = round(per_second * seconds)
    if cv == 0:
        return [number / per_second for number in range(count)]
    shape = cv**-2
    intervals = np.random.default_rng(seed).gamma(shape, 1 / (per_second * shape), count)
    times: list[float] = np.cumsum(intervals).tolist()
    return times


async def arrivals(
    address: str, requests: Sequence[Request], due: Sequence[float], headers: str = "", ca_file: str = ""
) -> Arrivals:
    """Send a POST request at each of the times in `due`, in turn from `requests`, and wait for all answers.

    `headers` holds more lines of the head, each with its line end; `ca_file` names authorities beside the system's.
    """
    parts = urlsplit(address)
    loop = asyncio.get_running_loop()
    seen = Arrivals()
    idle: list[Connection] = []
    tls = tls_context(ca_file) if parts.scheme == "https" else None

    async def send(head_and_body: bytes, due: float) -> int:
        # Servers close connections that have been idle for some seconds.
        while idle and idle[-1].closed:
            idle.pop()
        if idle:
            connection = idle.pop()
        else:
            host, port = parts.hostname or "127.0.0.1", parts.port or (443 if tls else 80)
            _, connection = await loop.create_connection(Connection, host, port, ssl=tls)
        seen.late.append(time.perf_counter() - due)
        status = await connection.ask(head_and_body)
        idle.append(connection)
        return status

    async def one(request: Request, due: float) -> None:
        head = (
            f"POST {request.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {request.content_type}\r\n{headers}"
        )
        whole = f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body
        try:
            status = await asyncio.wait_for(send(whole, due), ANSWER_SECONDS)
        except (OSError, TimeoutError) as error:
            seen.failed.append(repr(error))
            return
        took = time.perf_counter() - due
        if status == HTTPStatus.OK:
            seen.accepted.append(took)
        elif status in REFUSALS:
            seen.refused.append(took)
        else:
            seen.failed.append(str(status))

    started = time.perf_counter()
    tasks = set()
    for number, seconds in enumerate(due):
        if (wait := started + seconds - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(requests[number % len(requests)], started + seconds))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    while tasks:
        await asyncio.wait(set(tasks))
    seen.seconds = time.perf_counter() - started
    return seen


def run(load: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run a load on uvloop, which leaves more of the cores to the server, or on asyncio where uvloop is missing."""
    try:
        import uvloop
    except ImportError:  # on Windows
        return asyncio.run(load)
    outcome: Outcome = uvloop.run(load)
    return outcome


def drawn(model: str, count: int, cache_rate: float) -> list[Request]:
    """Return requests of which a share `cache_rate` repeats one of a few; the others have never been sent before."""
    draw = random.SystemRandom()
    fresh = draw.getrandbits(48)
    made = inputs.REQUESTS[model]
    pool = [made(number) for number in range(POOL)]
    return [draw.choice(pool) if draw.random() < cache_rate else made(fresh + number) for number in range(count)]


def summary(seen: Arrivals, due: Sequence[float]) -> list[str]:
    """Return the lines that sum up a load: rate, latency from when requests were due, refusals and failures."""
    count = len(due)
    offered = count / (due[-1] or 1.0)
    took = np.array(seen.accepted or [np.nan]) * 1000
    p50, p95, p99 = np.quantile(took, (0.5, 0.95, 0.99))
    late = np.array(seen.late or [np.nan]) * 1000
    return [
        f"rate        {offered:.1f} requests/s offered, {len(seen.accepted) / seen.seconds:.1f} answered",
        f"latency     p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, max {took.max():.1f} ms, from when due",
        f"refused     {len(seen.refused) / count:.2%}",
        f"failed      {len(seen.failed) / count:.2%} {', '.join(sorted(set(seen.failed))[:5])}".rstrip(),
        f"sent late   p99 {np.quantile(late, 0.99):.1f} ms: by so much this client did not keep up",
    ]


def main() -> int:
    """Offer a load and print what became of it."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.open_loop", description="Offer load in an open loop.")
    parser.add_argument("--host", default="http://localhost:3000")
    parser.add_argument("--model", choices=inputs.REQUESTS, default="sentiment")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--arrivals", choices=("even", "poisson", "gamma"), default="poisson")
    parser.add_argument("--cv", type=float, default=3.0, help="of gamma: coefficient of variation of the intervals")
    parser.add_argument("--cache-rate", type=float, default=CACHE_RATE, help="share of repeated inputs")
    parser.add_argument("--api-key", default="")
    parser.add_argument("--ca-file", default=os.environ.get("CA_FILE", ""), help="PEM file of the server's authority")
    given = parser.parse_args()
    cv = {"even": 0.0, "poisson": 1.0, "gamma": given.cv}[given.arrivals]
    due = due_times(given.rate, given.seconds, cv)
    if not due:
        parser.error("no request is due in so little time")
    try:
        get(f"{given.host}/readyz", ca_file=given.ca_file)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 2
    requests = drawn(given.model, len(due), given.cache_rate)
    # Collecting the garbage of making the requests would hold up the client.
    gc.collect()
    gc.freeze()
    headers = f"X-API-Key: {given.api_key}\r\n" if given.api_key else ""
    seen: Any = run(arrivals(given.host, requests, due, headers, given.ca_file))
    print(*summary(seen, due), sep="\n")
    return int(bool(seen.failed))


if __name__ == "__main__":
    sys.exit(main())
