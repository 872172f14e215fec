"""Measure how fast the server is: each figure is a ratio to something else, measured in the same run.

python -m benchmarks.bench [--rounds 5] [--seconds 4] [scenario ...]

--quick only checks that every scenario works: once, a second each, and with a small network in place of one of
DistilBERT's size. Measurements have a fixed length, for which the requests are made, so that a slow machine takes no
longer than another.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable

import httpx
import numpy as np
import psutil

from benchmarks.call_cost import call_cost
from benchmarks.command_line import part_parser, run_parts
from benchmarks.compare.assets import FOLDER, Assets
from benchmarks.explaining import explaining, explaining_beside
from benchmarks.idle import idle
from benchmarks.job_beside import job_beside
from benchmarks.machine import Steal, described, machine
from benchmarks.pictures import pictures
from benchmarks.rows import many_rows, uploads
from benchmarks.small_models import (
    bare_answer,
    memory_cache,
    new_customers,
    new_rows,
    open_loop,
    redis_cache,
    response_cache,
)
from benchmarks.speed_bench import SpeedBench, say
from benchmarks.texts import busy_neighbour, distilbert, mostly_known, sentiment
from benchmarks.wrk import wrk
from loadtest import inputs
from loadtest.inputs import JSON, Request
from loadtest.open_loop import Arrivals, arrivals, due_times, run
from loadtest.processes import tiffin

# For overload: texts per request, and requests made to find the capacity.
BATCH_TEXTS = 8
CAPACITY_BATCHES = 10_000


def batch(number: int) -> dict[str, list[str]]:
    """Return the body of a request whose texts no other batch has."""
    return {"text": [inputs.text(number * BATCH_TEXTS + place) for place in range(BATCH_TEXTS)]}


def overload(bench: SpeedBench) -> None:
    """Offer three times the capacity in an open loop for a minute (15 times --seconds)."""
    path = "/sentiment/predict"
    bodies = bench.bodies("batches", map(batch, range(CAPACITY_BATCHES)))
    with tiffin(bench.home, models="sentiment", cache_max_bytes=2**20, response_cache_max_bytes=2**20) as address:
        wrk(address, path, bodies, 16, bench.seconds / 2)
        before = wrk(address, path, bodies, 16, 2.5 * bench.seconds, 1_000).per_second
        due = due_times(3 * before, 15 * bench.seconds, cv=0)
        numbers = range(CAPACITY_BATCHES, CAPACITY_BATCHES + len(due))
        requests = [Request(path, JSON, json.dumps(batch(number)).encode()) for number in numbers]
        port = httpx.URL(address).port
        server = next(c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port)
        processes = [psutil.Process(server), *psutil.Process(server).children(recursive=True)]
        memory = sum(process.memory_info().rss for process in processes)
        # All that the benchmarks have imported and made is garbage-collected beforehand: a collection during the load
        # takes 90 ms, which looks like a slow refusal.
        gc.collect()
        gc.freeze()
        seen: Arrivals = run(arrivals(address, requests, due))
        growth = sum(process.memory_info().rss for process in processes) / memory
        # Measured before and after, since other tenants slow the machine down for minutes at a time.
        capacity = (before + wrk(address, path, bodies, 16, 2.5 * bench.seconds, 5_000).per_second) / 2
    accepted = np.array(seen.accepted)
    say(
        "overload, goodput at 3 x capacity",
        len(accepted) / seen.seconds / capacity,
        "x capacity",
        f"{capacity:,.0f} requests/s",
    )
    say("overload, p99 of the accepted", float(np.quantile(accepted, 0.99)), "s", "deadline 10 s")
    refused = np.array(seen.refused or [0.0]) * 1000
    say(
        "overload, slowest refusal",
        float(refused.max()),
        "ms",
        f"p99 {np.quantile(refused, 0.99):.1f} ms, {len(seen.refused):,} refused, "
        f"sent late by at most {max(seen.late) * 1000:.1f} ms",
    )
    say("overload, memory after", growth, "x memory before", f"{memory * growth / 2**20:.0f} MiB")
    if seen.failed:
        raise RuntimeError(f"{len(seen.failed)} requests had another status: {seen.failed[:5]}")


SCENARIOS: dict[str, Callable[[SpeedBench], None]] = {
    scenario.__name__: scenario
    for scenario in (
        response_cache,
        bare_answer,
        memory_cache,
        redis_cache,
        new_rows,
        new_customers,
        open_loop,
        call_cost,
        sentiment,
        distilbert,
        mostly_known,
        busy_neighbour,
        many_rows,
        uploads,
        pictures,
        overload,
        idle,
        job_beside,
        explaining,
        explaining_beside,
    )
}


def main() -> int:
    """Run the requested scenarios, by default all of them."""
    parser = part_parser("benchmarks.bench", __doc__, SCENARIOS, "scenario")
    parser.add_argument("--rounds", type=int, default=5, help="measurements, of which the median counts")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--quick", action="store_true", help="only check that every scenario works, see above")
    given = parser.parse_args()
    rounds, seconds = (1, 1.0) if given.quick else (given.rounds, given.seconds)
    assets = Assets(FOLDER, small=given.quick)
    print(f"{described(machine())}; medians of {rounds} x {seconds:g} s", flush=True)
    steal = Steal()
    status = run_parts(SCENARIOS, given.names, lambda home, folder: SpeedBench(home, folder, assets, rounds, seconds))
    print(f"the host gave {steal.share():.1%} of the time to others")
    return status


if __name__ == "__main__":
    sys.exit(main())
