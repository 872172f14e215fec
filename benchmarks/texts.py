"""Texts, against the bare ONNX session on the same cores."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnxruntime

from benchmarks.compare import loads
from benchmarks.compare.assets import entry
from benchmarks.compare.servers import tiffin as tiffin_processes
from benchmarks.speed_bench import SpeedBench, say
from benchmarks.wrk import wrk
from loadtest import inputs
from loadtest.processes import tiffin
from models.sentiment import Sentiment
from serving.cores import available_cores
from serving.inference.padding import stack

TEXTS_PER_SECOND = 5_000
# Where nearly all are known.
MIXED_PER_SECOND = 20_000


def texts(count: int) -> list[str]:
    """Return `count` different texts."""
    return [inputs.text(number) for number in range(count)]


class BareSession:
    """The sentiment model's ONNX session without a server, in batches sorted by length."""

    def __init__(self, home: Path, threads: int) -> None:
        folder = entry(home, "sentiment")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
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
    bare = BareSession(home, available_cores())
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


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """Keep a core busy by another process."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def busy_neighbour(bench: SpeedBench) -> None:
    """Compare what another process that takes a core leaves of our texts per second, and of the bare session's."""
    bare = BareSession(bench.home, available_cores())
    sample = texts(round(3 * (1 + bench.rounds) * bench.seconds * TEXTS_PER_SECOND))
    bodies = bench.bodies("texts", ({"text": [text]} for text in sample))
    used = 0
    with tiffin(bench.home, models="sentiment") as address:

        def both() -> tuple[float, float]:
            nonlocal used
            found = wrk(address, "/sentiment/predict", bodies, 64, bench.seconds, used)
            part = sample[used : used + min(found.requests, 1_000)]
            used += found.requests
            return found.per_second, len(part) / bare.seconds(part, 8)

        def measure(_: int) -> tuple[float, float]:
            alone = both()
            with neighbour():
                beside = both()
            ours, theirs = (with_it / without for with_it, without in zip(beside, alone, strict=True))
            return ours, theirs

        measure(-1)
        ratio, a, b = bench.ratio(measure)
    say("sentiment beside a busy process", ratio, "x what the bare session keeps", f"{a:.0%} : {b:.0%} of its texts/s")


def mostly_known(bench: SpeedBench) -> None:
    """Compare the CPU time of a text where 95 % are known with what hits and the bare session alone would take."""
    path = "/sentiment/predict"
    count = round((1 + bench.rounds) * bench.seconds * MIXED_PER_SECOND)
    numbers = [loads.mostly_known(position) for position in range(count)]
    mixed = bench.bodies("mixed", ({"text": [inputs.text(number)]} for number in numbers))
    hits = bench.bodies("hits", ({"text": [text]} for text in texts(loads.POOL)))
    bare = BareSession(bench.home, 1)
    used = 0
    with tiffin_processes(bench.home, inputs.sentiment(0), "sentiment") as server:

        def cost(bodies: Path, first: int) -> tuple[float, int]:
            before = server.cpu_seconds()
            found = wrk(server.address, path, bodies, 64, bench.seconds, first).requests
            return (server.cpu_seconds() - before) / found, found

        def measure(_: int) -> tuple[float, float]:
            nonlocal used
            hit, _ = cost(hits, 0)
            ours, found = cost(mixed, used)
            fresh = [inputs.text(number) for number in numbers[used : used + found] if number >= loads.POOL]
            used += found
            alone = bare.seconds(fresh, 8) / len(fresh)
            share = 1 / loads.NEW_EVERY
            return share * alone + (1 - share) * hit, ours

        measure(-1)
        ratio, a, b = bench.ratio(measure)
    say(
        "sentiment, 95 % of the texts known",
        ratio,
        "x the speed of its parts alone",
        f"{1e6 * b:,.0f} : {1e6 * a:,.0f} µs of CPU for a text",
    )
