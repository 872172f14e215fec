"""Measure how fast the server is: each figure is a ratio to something else, measured in the same run.

python -m benchmarks.bench [--rounds 5] [--seconds 4] [scenario ...]

--quick only checks that every scenario works: once, a second each, and with a small network in place of one of
DistilBERT's size. Measurements have a fixed length, for which the requests are made, so that a slow machine takes no
longer than another.
"""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import psutil

from benchmarks.call_cost import call_cost
from benchmarks.command_line import part_parser, run_parts
from benchmarks.compare.assets import FOLDER, Assets, entry
from benchmarks.explaining import explaining, explaining_beside
from benchmarks.job_beside import job_beside
from benchmarks.speed_bench import SpeedBench, say
from benchmarks.wrk import wrk
from loadtest import inputs
from loadtest.inputs import JSON, Request
from loadtest.open_loop import Arrivals, arrivals, due_times, run
from loadtest.processes import ROOT, free_port, redis, running, tiffin
from models.sentiment import Sentiment
from serving.cores import available_cores
from serving.inference.padding import stack

# Few enough to be sent all during the warm-up, and so many that few are in flight twice.
KNOWN_ROWS = 2_000
# More than a server answers in a second, so that none is sent twice.
ROWS_PER_SECOND = 10_000
WARM_UP_ROWS = 50_000
TEXTS_PER_SECOND = 5_000
# For overload: texts per request, and requests made to find the capacity.
BATCH_TEXTS = 8
CAPACITY_BATCHES = 10_000


def texts(count: int) -> list[str]:
    """Return `count` different texts."""
    return [inputs.text(number) for number in range(count)]


def rows(count: int) -> Iterator[dict[str, float]]:
    """Yield `count` different measurements of tumours."""
    return map(inputs.tumour, range(count))


@contextlib.contextmanager
def plain_fastapi() -> Iterator[str]:
    """Serve `benchmarks.plain_fastapi` with uvicorn: one worker, httptools and, where there is one, uvloop."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "benchmarks.plain_fastapi:app", "--port", str(port), "--no-access-log"]
    with running([*command, "--loop", "auto", "--http", "httptools"], address, "/openapi.json", {}, ROOT):
        yield address


def against_fastapi(bench: SpeedBench, scenario: str, bodies: Path, **settings: Any) -> None:
    """Compare requests per second to breast_cancer with plain FastAPI, over 10 and over 64 connections."""
    path = "/breast_cancer/predict"
    with tiffin(bench.home, models="breast_cancer", **settings) as ours, plain_fastapi() as theirs:
        wrk(ours, path, bodies, 10, 1)
        wrk(theirs, path, bodies, 10, 1)
        start = WARM_UP_ROWS
        for connections in (10, 64):

            def measure(number: int, connections: int = connections) -> tuple[float, float]:
                nonlocal start
                found = wrk(ours, path, bodies, connections, bench.seconds, start)
                start += found.requests
                other = wrk(theirs, path, bodies, connections, bench.seconds, start)
                return found.per_second, other.per_second

            ratio, a, b = bench.ratio(measure)
            say(f"{scenario}, {connections} connections", ratio, "x plain FastAPI", f"{a:,.0f} : {b:,.0f} requests/s")


def response_cache(bench: SpeedBench) -> None:
    """Send the same request again and again."""
    against_fastapi(bench, "response cache", bench.bodies("one", [inputs.TUMOUR]))


def memory_cache(bench: SpeedBench) -> None:
    """Send items that are all in the in-memory prediction cache."""
    known = bench.bodies("known", rows(KNOWN_ROWS))
    against_fastapi(bench, "prediction cache, memory", known, response_cache_max_bytes=0)


def redis_cache(bench: SpeedBench) -> None:
    """Send items that are all in Redis."""
    with redis() as url:
        against_fastapi(
            bench,
            "prediction cache, Redis",
            bench.bodies("known", rows(KNOWN_ROWS)),
            response_cache_max_bytes=0,
            cache_max_bytes=0,
            redis_url=url,
        )


def new_rows(bench: SpeedBench) -> None:
    """Send rows that the server has never seen."""
    # Two numbers of connections, each for both servers.
    count = WARM_UP_ROWS + round(4 * bench.rounds * bench.seconds * ROWS_PER_SECOND)
    against_fastapi(bench, "breast_cancer, every row new", bench.bodies("rows", rows(count)))


class BareSession:
    """The sentiment model's ONNX session without a server: batches of 8, sorted by length, on all cores."""

    def __init__(self, home: Path) -> None:
        folder = entry(home, "sentiment")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options)
        self.model = Sentiment(folder)

    def seconds(self, texts: list[str], batch: int) -> float:
        """Return the seconds that all texts take, not counting their tokenization."""
        encoded = sorted((self.model.preprocess(text) for text in texts), key=lambda x: len(x["input_ids"]))
        stacked = [stack(encoded[i : i + batch]) for i in range(0, len(encoded), batch)]
        started = time.perf_counter()
        for feed in stacked:
            self.session.run(None, feed)
        return time.perf_counter() - started


def against_session(bench: SpeedBench, home: Path, scenario: str) -> None:
    """Compare texts per second over 64 connections, and the latency over one, with the bare session."""
    bare = BareSession(home)
    sample = texts(round((0.5 + 2.5 * bench.rounds) * bench.seconds * TEXTS_PER_SECOND))
    bodies = bench.bodies("texts", ({"text": [text]} for text in sample))
    bare.seconds(sample[:200], 8)
    used = 0
    with tiffin(home, models="sentiment") as address:
        used += wrk(address, "/sentiment/predict", bodies, 64, bench.seconds / 2).requests

        def throughput(number: int) -> tuple[float, float]:
            nonlocal used
            found = wrk(address, "/sentiment/predict", bodies, 64, 1.5 * bench.seconds, used)
            part = sample[used : used + min(found.requests, 4_000)]
            used += found.requests
            return found.per_second, len(part) / bare.seconds(part, 8)

        ratio, a, b = bench.ratio(throughput)
        say(
            f"{scenario}, every text new, 64 connections",
            ratio,
            "x bare session, batches of 8",
            f"{a:,.0f} : {b:,.0f} texts/s",
        )

        def latency(number: int) -> tuple[float, float]:
            nonlocal used
            found = wrk(address, "/sentiment/predict", bodies, 1, bench.seconds, used)
            part = sample[used : used + min(found.requests, 500)]
            used += found.requests
            times = [bare.seconds([text], 1) for text in part]
            return found.p50 * 1000, statistics.median(times) * 1000

        ratio, a, b = bench.ratio(latency)
        say(
            f"{scenario}, every text new, 1 connection",
            (a - 1) / b,
            "x bare session's p50, less 1 ms",
            f"{a:.2f} : {b:.2f} ms",
        )


def sentiment(bench: SpeedBench) -> None:
    """Measure the text classifier that Tiffin ships."""
    against_session(bench, bench.home, "sentiment")


def distilbert(bench: SpeedBench) -> None:
    """Measure a text classifier of DistilBERT's size, with random weights."""
    against_session(bench, bench.assets.of("distilbert") / "home", "DistilBERT's size")


def many_rows(bench: SpeedBench) -> None:
    """Compare 10 000 rows of segmentation in one request with reading them with json and pandas."""
    import pandas

    data = [inputs.customer(number) for number in range(10_000)]
    with tiffin(bench.home, models="segmentation") as address, httpx.Client(base_url=address, timeout=30) as client:

        def measure(number: int) -> tuple[float, float]:
            data[0]["x0"] = number + 0.5
            body = json.dumps({"data": data}).encode()
            headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
            started = time.perf_counter()
            client.post("/segmentation/predict", content=body, headers=headers).raise_for_status()
            ours = time.perf_counter() - started
            started = time.perf_counter()
            pandas.DataFrame(json.loads(body)["data"])
            return ours, time.perf_counter() - started

        measure(-1)
        ratio, a, b = bench.ratio(measure)
    say("segmentation, 10 000 rows in one request", ratio, "x json.loads and a DataFrame", f"{a:.2f} : {b:.2f} s")


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
        memory_cache,
        redis_cache,
        new_rows,
        call_cost,
        sentiment,
        distilbert,
        many_rows,
        overload,
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
    return run_parts(SCENARIOS, given.names, lambda home, folder: SpeedBench(home, folder, assets, rounds, seconds))


if __name__ == "__main__":
    sys.exit(main())
