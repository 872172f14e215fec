"""Measure an attack: its effect on an honest client and on the server's memory."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx

from tests.attacks.attackers import Attack, Victim
from tests.attacks.connections import KEY
from tests.attacks.honest import Request, Result, honest_client
from tests.attacks.targets import targets
from tests.attacks.watch import MAX_MEMORY_BYTES, MemoryWatch
from tests.support.watched import KNOWN, known_answers, same, watched

# Statuses that an honest client may get during an attack.
ALLOWED = {200, 429, 503, 504}
# How soon after an attack a server must answer as before.
RECOVERY_SECONDS = 30.0
HEADING = """\
| attack | p99 beside it / p99 alone | answers to the honest client | peak memory | answers to the attackers |
|---|---|---|---|---|"""


class Measurement(NamedTuple):
    """The result of an attack; `faults` are violations of what it must not do."""

    name: str
    alone: list[Result]
    during: list[Result]
    peak_bytes: int
    answers: Counter[str]
    faults: list[str]

    def row(self) -> str:
        """Return the row of the table under HEADING."""
        ratio = p99(self.during) / p99(self.alone) if self.during and self.alone else math.nan
        honest = Counter("none" if result.status == 0 else str(result.status) for result in self.during)
        cells = [
            self.name,
            f"{ratio:.1f}",
            listed(honest),
            f"{self.peak_bytes / 2**20:.0f} MiB",
            listed(self.answers),
        ]
        return f"| {' | '.join(cells)} |"


def listed(counts: Counter[str]) -> str:
    """Format counts for a cell of the table."""
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counts.items())) or "none"


def p99(results: Sequence[Result]) -> float:
    """Return the 99th percentile of the response times, in seconds."""
    return sorted(result.seconds for result in results)[math.ceil(0.99 * len(results)) - 1]


def honest_requests(client: httpx.Client) -> list[Request]:
    """Return small requests to several routes that no cache can serve."""
    built = [client.build_request("GET", "/livez")]
    built += [client.build_request("POST", path, **arguments) for path, arguments in KNOWN]
    for request in built:
        request.headers["cache-control"] = "no-store"
    return [Request(made.method, made.url.raw_path.decode(), made.read(), dict(made.headers)) for made in built]


async def assault(attack: Attack, victim: Victim, seconds: float) -> None:
    """Run an attack for `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await attack.run(victim)


def measured(attack: Attack, seconds: float) -> Measurement:
    """Start a server, measure an honest client alone on it for `seconds`, then for as long under attack."""
    with (
        watched(attack.env) as server,
        httpx.Client(base_url=server.address, timeout=RECOVERY_SECONDS, headers={"x-api-key": KEY}) as client,
    ):
        expected = known_answers(client)
        found = {target.path: target for target in targets(client.get("/docs.json").json())}
        victim = Victim(server.port, found, attack.make(found))
        with (
            MemoryWatch(server.memory_bytes, server.kill) as memory,
            honest_client(server.port, honest_requests(client)) as honest,
        ):
            honest.wait_until_warm()
            warm = time.time()
            time.sleep(seconds)
            started = time.time()
            asyncio.run(assault(attack, victim, seconds))
            ended = time.time()
            results = honest.results()
        faults = [] if recovered(client, expected) else ["the server does not answer as before"]
        if memory.lost:
            faults.append("a process of the server has ended, or was ended at 4 GiB")
        if faults:
            server.print_faults()
            server.kill()
    alone = [result for result in results if warm <= result.sent and result.sent + result.seconds < started]
    during = [result for result in results if result.sent < ended and result.sent + result.seconds >= started]
    return Measurement(
        attack.name, alone, during, memory.peak_bytes, victim.answers, faults + faults_of(during, memory.peak_bytes)
    )


def faults_of(during: Sequence[Result], peak_bytes: int) -> list[str]:
    """Return the faults: responses an honest client should not have got, and memory over the limit."""
    wrong = Counter(result.status for result in during if result.status not in ALLOWED)
    faults = [f"{count} honest requests got {status or 'no answer'}" for status, count in sorted(wrong.items())]
    if not during:
        faults.append("no honest request was answered")
    if peak_bytes > MAX_MEMORY_BYTES:
        faults.append(f"memory reached {peak_bytes / 2**20:.0f} MiB")
    return faults


def recovered(client: httpx.Client, expected: list[Any]) -> bool:
    """Return whether the server answers as before within RECOVERY_SECONDS."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        with contextlib.suppress(AssertionError, httpx.TransportError):
            if same(known_answers(client), expected) and client.get("/readyz").status_code == 200:
                return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
