"""What a server takes before anybody asks it anything: memory, and time until it is ready."""

from __future__ import annotations

import statistics
import time

import psutil

from benchmarks.compare.servers import memory_bytes
from benchmarks.small_models import bare_bento
from benchmarks.speed_bench import SpeedBench, say
from loadtest.processes import tiffin

# After which nothing that the start has begun goes on.
SETTLE_SECONDS = 2


def idle(bench: SpeedBench) -> None:
    """Compare the start and the memory of all four models with those of a BentoML service without any."""
    memory: list[tuple[float, float]] = []

    def measure(_: int) -> tuple[float, float]:
        started = time.perf_counter()
        with tiffin(bench.home):
            ours = time.perf_counter() - started
            ours_bytes = children_bytes()
        started = time.perf_counter()
        with bare_bento():
            theirs = time.perf_counter() - started
            memory.append((ours_bytes, children_bytes()))
        return ours, theirs

    measure(-1)
    memory.clear()
    ratio, a, b = bench.ratio(measure)
    say("start until ready, all four models", ratio, "x an empty BentoML service", f"{a:.2f} : {b:.2f} s")
    ours, theirs = (statistics.median(column) / 2**20 for column in zip(*memory, strict=True))
    say("memory, all four models", ours / theirs, "x an empty BentoML service", f"{ours:.0f} : {theirs:.0f} MiB")


def children_bytes() -> float:
    """Return the memory of this process's children and theirs, once they have settled."""
    time.sleep(SETTLE_SECONDS)
    return float(sum(map(memory_bytes, psutil.Process().children(recursive=True))))
