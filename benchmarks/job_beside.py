"""Measure what a background job and interactive requests cost each other."""

from __future__ import annotations

import itertools
import json
import tempfile
import time

import httpx
import numpy as np

from benchmarks.speed_bench import SpeedBench, open_loop_p99, say
from benchmarks.wrk import wrk
from loadtest import inputs
from loadtest.processes import tiffin

PATH = "/sentiment/predict"
# How long a run of batch work is, in seconds: what a request may have to wait for (serving/inference/share.py).
JOB_RUN_SECONDS = 0.02
# So many that the job outlasts every measurement; and requests made to find the capacity.
JOB_TEXTS = 60_000
CAPACITY_TEXTS = 50_000
START_SECONDS = 60.0


class LongJob:
    """A job of many texts, cancelled when the context ends."""

    def __init__(self, client: httpx.Client, first: int) -> None:
        self.client = client
        lines = (json.dumps({"text": inputs.text(first + number)}) for number in range(JOB_TEXTS))
        self.file = "\n".join(lines).encode()

    def __enter__(self) -> LongJob:
        response = self.client.post("/sentiment/score/submit", files={"file": ("texts.jsonl", self.file)})
        self.task = response.raise_for_status().json()["task_id"]
        deadline = time.monotonic() + START_SECONDS
        while not self.rows():
            if time.monotonic() > deadline:
                raise RuntimeError("the job does not begin")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.put("/sentiment/score/cancel", params={"task_id": self.task}).raise_for_status()

    def rows(self) -> int:
        """Return how many rows are done."""
        status = self.client.get("/sentiment/score/status", params={"task_id": self.task}).raise_for_status().json()
        if status["status"] not in ("pending", "in_progress"):
            raise RuntimeError(f"the job has ended: {status}")
        done: int = status["rows_done"]
        return done

    def rate(self, seconds: float) -> float:
        """Return the rows done in a second, measured for so long, and until some are."""
        before, started = self.rows(), time.monotonic()
        while time.monotonic() < started + seconds or self.rows() == before:
            time.sleep(0.1)
        return (self.rows() - before) / (time.monotonic() - started)


class Interactive:
    """Requests of a text each that no other has, offered in an open loop; numbers of texts are used up."""

    def __init__(self, address: str, per_second: float, seconds: float) -> None:
        self.address = address
        self.per_second = per_second
        self.seconds = seconds
        self.requests = map(inputs.sentiment, itertools.count(2 * 10**6))

    def p99(self) -> float:
        """Send requests and return the 99th percentile of their latency in ms; RuntimeError where one fails."""
        return open_loop_p99(self.address, self.per_second, self.seconds, self.requests)


def job_beside(bench: SpeedBench) -> None:
    """Offer half of the capacity in an open loop, without and with a job beside it."""
    bodies = bench.bodies("texts", ({"text": [inputs.text(number)]} for number in range(CAPACITY_TEXTS)))
    with (
        tempfile.TemporaryDirectory() as folder,
        tiffin(bench.home, models="sentiment", job_store=folder) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        wrk(address, PATH, bodies, 16, bench.seconds / 2)
        capacity = wrk(address, PATH, bodies, 16, bench.seconds, 10_000).per_second
        with LongJob(client, 10**6) as job:
            alone_rows = job.rate(2 * bench.seconds)
        interactive = Interactive(address, capacity / 2, 5 * bench.seconds)
        rates: list[float] = []

        def measure(number: int) -> tuple[float, float]:
            without = interactive.p99()
            with LongJob(client, (3 + number) * 10**6) as job:
                before, started = job.rows(), time.monotonic()
                beside = interactive.p99()
                rates.append((job.rows() - before) / (time.monotonic() - started))
            return beside, 1.5 * without + JOB_RUN_SECONDS * 1000

        measure(0)
        rates.clear()
        ratio, a, b = bench.ratio(measure)
    bound = "x 1.5 times that without a job, plus 20 ms"
    say("p99 at half of the capacity, beside a job", ratio, bound, f"{a:.1f} : {b:.1f} ms")
    rate = float(np.median(rates))
    say(
        "a job beside half of the capacity",
        rate / alone_rows,
        "x its lone rate",
        f"{rate:,.0f} : {alone_rows:,.0f} texts/s",
    )
