"""Print the tables of docs/sizing.md: what a pod holds, what requests cost, what pods add, what the cache saves.

python -m benchmarks.sizing [--seconds 4] [--price 0.04] [part ...]
"""

from __future__ import annotations

import contextlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command_line import part_parser, run_parts
from benchmarks.compare.servers import Server, tiffin
from benchmarks.wrk import Load, write_bodies, wrk
from loadtest import inputs
from loadtest.processes import own_cores

# Inputs that are requested during the warm-up, and thus cached.
KNOWN = 200
HIT_RATES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
PODS = (4, 8, 16)
ROUNDS = 3


@dataclass
class SizingBench:
    """What every part needs; `price` is what a core costs in an hour."""

    home: Path
    folder: Path
    seconds: int
    price: float

    def server(self, model: str, cores: Iterable[int]) -> contextlib.AbstractContextManager[Server]:
        """Start Tiffin with one model, or all for "", bound to these cores."""
        return tiffin(self.home, inputs.REQUESTS[model or "sentiment"](0), model, cores=list(cores))

    def bodies(self, model: str, numbers: Iterable[int], name: str) -> Path:
        """Return the file of the bodies of requests, which is written once."""
        path = self.folder / f"{model}-{name}"
        if not path.exists():
            write_bodies(path, map(inputs.REQUESTS[model], numbers))
        return path

    def cost(self, cpu_seconds: float, requests: int) -> str:
        """Return two cells of a table: the CPU seconds of a million requests, and what these cost."""
        seconds = 1e6 * cpu_seconds / requests
        return f"{seconds:,.0f} | {seconds / 3600 * self.price:.3f}"


def load(server: Server, model: str, bodies: Path, connections: int, seconds: int, first: int = 0) -> Load:
    """Load a model in a closed loop and return what was measured."""
    request = inputs.REQUESTS[model](0)
    return wrk(server.address, request.path, bodies, connections, seconds, first, request.content_type)


def pod(bench: SizingBench) -> None:
    """Show the requests per second of one pod, by model, for new and for known inputs."""
    print("| model | inputs | cores | requests/s | p99, ms | CPU s per million | cost per million |")
    print("|---|---|---|---|---|---|---|")
    for model in inputs.REQUESTS:
        new = bench.bodies(model, range(1, 20_000 if model == "image" else 200_000), "new")
        known = bench.bodies(model, range(KNOWN), "known")
        for count in sorted({1, len(own_cores())}):
            with bench.server(model, own_cores()[:count]) as server:
                used = load(server, model, new, 64, 2).requests
                load(server, model, known, 8, 2)
                for name, file in (("new", new), ("known", known)):
                    before = server.cpu_seconds()
                    found = load(server, model, file, 64, bench.seconds, used)
                    cost = bench.cost(server.cpu_seconds() - before, found.requests)
                    row = (model, name, count, f"{found.per_second:,.0f}", f"{1000 * found.p99:.0f}", cost)
                    print("|", " | ".join(map(str, row)), "|", flush=True)


def pods(bench: SizingBench) -> None:
    """Show the new texts per second of one and two pods of a core each; for more, the mean of two is multiplied."""
    print("| pods of one core | texts/s | |\n|---|---|---|")
    file = bench.bodies("sentiment", range(1, 200_000), "new")
    shares = 0.0
    for count in (1, 2):
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(bench.server("sentiment", [core])) for core in own_cores()[:count]]

            def work(number: int, servers: list[Server] = servers) -> float:
                load(servers[number], "sentiment", file, 64, 2, number * 100_000)
                return load(servers[number], "sentiment", file, 64, bench.seconds, number * 100_000 + 10_000).per_second

            with ThreadPoolExecutor(count) as pool:
                shares = sum(pool.map(work, range(len(servers))))
        print(f"| {len(servers)} | {shares:,.0f} | measured |", flush=True)
    for count in PODS:
        print(f"| {count} | {shares / len(servers) * count:,.0f} | computed |", flush=True)


def mixed(rate: float) -> Iterator[int]:
    """Yield numbers of inputs without end, of which a share `rate` is cached and the others are new."""
    draw = random.Random(0)  # noqa: S311
    number = KNOWN
    while True:
        number += 1
        yield draw.randrange(KNOWN) if draw.random() < rate else number


def hit_rates(bench: SizingBench) -> None:
    """Show what requests cost by the share of texts that are known."""
    print("| texts known | requests/s | p99, ms | CPU s per million | cost per million |\n|---|---|---|---|---|")
    known = bench.bodies("sentiment", range(KNOWN), "known")
    for rate in HIT_RATES:
        numbers = mixed(rate)
        file = bench.bodies("sentiment", (next(numbers) for _ in range(200_000)), f"mixed-{rate}")
        with bench.server("sentiment", own_cores()) as server:
            load(server, "sentiment", known, 8, 2)
            before = server.cpu_seconds()
            found = load(server, "sentiment", file, 10, bench.seconds)
            cost = bench.cost(server.cpu_seconds() - before, found.requests)
        print(f"| {rate:.0%} | {found.per_second:,.0f} | {1000 * found.p99:.0f} | {cost} |", flush=True)


def neighbours(bench: SizingBench) -> None:
    """Show what a busy model does to another in the same pod, in ROUNDS rounds, of which the median counts."""
    print("| breast_cancer, new rows, one connection | p50, ms | p99, ms |\n|---|---|---|")
    rows = bench.bodies("breast_cancer", range(1, 500_000), "new")
    pictures = bench.bodies("image", range(1, 20_000), "new")
    found: dict[str, list[Load]] = {"alone": [], "beside 64 connections to image": []}
    used = 0
    with bench.server("", own_cores()) as server, ThreadPoolExecutor(1) as pool:

        def tumours(seconds: int) -> Load:
            nonlocal used
            seen = load(server, "breast_cancer", rows, 1, seconds, used)
            used += seen.requests
            return seen

        tumours(2)
        for number in range(ROUNDS):
            found["alone"].append(tumours(bench.seconds))
            busy = pool.submit(load, server, "image", pictures, 64, bench.seconds + 3, number * 5_000)
            time.sleep(1)
            found["beside 64 connections to image"].append(tumours(bench.seconds))
            busy.result()
    for name, seen in found.items():
        p50, p99 = (statistics.median(column) for column in zip(*((each.p50, each.p99) for each in seen), strict=True))
        print(f"| {name} | {1000 * p50:.1f} | {1000 * p99:.1f} |", flush=True)
    ratios = [beside.p99 / alone.p99 for alone, beside in zip(*found.values(), strict=True)]
    print(f"| its p99 times that alone | | {statistics.median(ratios):.1f} x |", flush=True)


def under_heading(part: Callable[[SizingBench], None]) -> Callable[[SizingBench], None]:
    """Return a part that prints what it shows before its table."""

    def run(bench: SizingBench) -> None:
        print(f"\n{part.__doc__}\n")
        part(bench)

    return run


PARTS = {part.__name__: under_heading(part) for part in (pod, pods, hit_rates, neighbours)}


def main() -> int:
    """Print the requested parts, by default all of them."""
    parser = part_parser("benchmarks.sizing", __doc__, PARTS, "part")
    parser.add_argument("--seconds", type=int, default=6, help="length of one measurement")
    parser.add_argument("--price", type=float, default=0.04, help="what a core costs in an hour")
    given = parser.parse_args()
    return run_parts(PARTS, given.names, lambda home, folder: SizingBench(home, folder, given.seconds, given.price))


if __name__ == "__main__":
    sys.exit(main())
