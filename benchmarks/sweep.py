"""Find the settings that serve a model best: each as a ratio to the defaults, measured right before and after.

python -m benchmarks.sweep [--model sentiment] [--seconds 4] [--workers 1,2] [--session-threads 1,2] ...
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from benchmarks.wrk import Load, write_bodies, wrk
from loadtest import inputs
from loadtest.processes import ROOT, MissingToolError, own_cores, store_home, tiffin

CONNECTIONS = 64
# Both more and fewer threads than cores are measured; beyond twice as many they only take turns.
MOST_THREADS_PER_CORE = 2


@dataclass(frozen=True)
class Choice:
    """Settings of the server, and how many cores it is bound to."""

    cores: int
    workers: int
    session_threads: int
    max_batch: int
    linger_seconds: float


@dataclass(frozen=True)
class ChoiceResult:
    """What a choice achieved: requests/s and p99 latency, also as ratios to the defaults on as many cores."""

    choice: Choice
    per_second: float
    p99_seconds: float
    ratio: float
    p99_ratio: float


def choices(arguments: argparse.Namespace) -> Iterator[Choice]:
    """Yield every combination that the cores can run."""
    lists = (arguments.cores, arguments.workers, arguments.session_threads, arguments.max_batch, arguments.linger)
    for values in itertools.product(*lists):
        choice = Choice(*values)
        if choice.workers * choice.session_threads <= MOST_THREADS_PER_CORE * choice.cores:
            yield choice


class Sweep:
    """A comparison of choices under the same load, whose requests are never repeated."""

    def __init__(self, home: Path, model: str, bodies: Path, seconds: int) -> None:
        self.home = home
        self.model = model
        self.bodies = bodies
        self.seconds = seconds
        self.used = 0
        self.cores = own_cores()

    def load(self, address: str, seconds: int) -> Load:
        """Send the next requests over as many connections as a busy pod has."""
        found = wrk(address, f"/{self.model}/predict", self.bodies, CONNECTIONS, seconds, self.used)
        self.used += found.requests
        return found

    def measure(self, reference: str, choice: Choice) -> ChoiceResult:
        """Measure a choice, and the defaults right before and after it."""
        settings = {
            "workers": choice.workers,
            "session_threads": choice.session_threads,
            "max_batch": choice.max_batch,
            "linger_seconds": choice.linger_seconds,
        }
        with tiffin(self.home, self.cores[: choice.cores], models=self.model, **settings) as address:
            self.load(address, 2)
            before = self.load(reference, self.seconds // 2)
            found = self.load(address, self.seconds)
            after = self.load(reference, self.seconds // 2)
        per_second = (before.per_second + after.per_second) / 2
        p99 = (before.p99 + after.p99) / 2
        return ChoiceResult(choice, found.per_second, found.p99, found.per_second / per_second, found.p99 / p99)

    def results(self, cores: int, wanted: list[Choice]) -> Iterator[ChoiceResult]:
        """Yield the results of the choices for this number of cores."""
        with tiffin(self.home, self.cores[:cores], models=self.model) as reference:
            self.load(reference, 2)
            for choice in wanted:
                yield self.measure(reference, choice)


def write(results: list[ChoiceResult], model: str, folder: Path) -> None:
    """Write `sweep-<model>.csv` and `.png` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Choice)]
    with (folder / f"sweep-{model}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, "requests_per_second", "p99_seconds", "ratio", "p99_ratio"])
        for result in results:
            measured = (result.per_second, result.p99_seconds, result.ratio, result.p99_ratio)
            table.writerow([*astuple(result.choice), *(f"{value:.4g}" for value in measured)])
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    groups = sorted({(r.choice.cores, r.choice.workers, r.choice.session_threads) for r in results})
    for cores, workers, threads in groups:
        of_group = [
            r
            for r in results
            if (r.choice.cores, r.choice.workers, r.choice.session_threads) == (cores, workers, threads)
        ]
        label = f"{cores} cores, {workers} workers, {threads} threads"
        axes.scatter([r.p99_ratio for r in of_group], [r.ratio for r in of_group], label=label)
        for r in of_group:
            note = f" {r.choice.max_batch}, {1000 * r.choice.linger_seconds:g} ms"
            axes.annotate(note, (r.p99_ratio, r.ratio), fontsize=6)
    axes.axhline(1, color="grey", linewidth=0.5)
    axes.axvline(1, color="grey", linewidth=0.5)
    axes.set(
        xlabel="p99 / p99 of the defaults",
        ylabel="requests/s / requests/s of the defaults",
        title=f"{model}: largest batch, linger; {CONNECTIONS} connections, every input new",
    )
    axes.legend(fontsize=7)
    figure.savefig(folder / f"sweep-{model}.png", dpi=120)
    plt.close(figure)


def numbers(kind: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Return a parser of lists such as '1,2', whose items `kind` makes."""
    return lambda text: [kind(part) for part in text.split(",")]


def main() -> int:
    """Measure and print every combination, then the fastest again."""
    available = len(own_cores())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--model", choices=["sentiment", "breast_cancer", "segmentation"], default="sentiment")
    parser.add_argument("--seconds", type=int, default=4, help="length of one measurement, 2 at least")
    some_cores = sorted({1, available})
    parser.add_argument("--cores", type=numbers(int), default=some_cores, help="cores that the server is bound to")
    parser.add_argument("--workers", type=numbers(int), default=[1, 2])
    parser.add_argument("--session-threads", type=numbers(int), default=some_cores)
    parser.add_argument("--max-batch", type=numbers(int), default=[4, 8, 16])
    parser.add_argument("--linger", type=numbers(float), default=[0.0, 0.002, 0.01], help="seconds")
    parser.add_argument("--requests", type=int, default=400_000, help="different requests to make beforehand")
    arguments = parser.parse_args()
    wanted = list(choices(arguments))
    home = store_home()
    results: list[ChoiceResult] = []
    print(
        f"{'cores':>5} {'workers':>7} {'threads':>7} {'batch':>5} {'linger':>7}   requests/s            p99", flush=True
    )
    with tempfile.TemporaryDirectory() as folder:
        bodies = Path(folder) / "bodies"
        write_bodies(bodies, map(inputs.REQUESTS[arguments.model], range(arguments.requests)))
        sweep = Sweep(home, arguments.model, bodies, arguments.seconds)
        try:
            for cores in arguments.cores:
                for result in sweep.results(cores, [choice for choice in wanted if choice.cores == cores]):
                    say(result)
                    results.append(result)
        except MissingToolError as error:
            print(error, file=sys.stderr)
            return 1
    write(results, arguments.model, ROOT / "reports")
    print("\nThe fastest, as ratios to the defaults on as many cores:")
    for result in sorted(results, key=lambda result: -result.ratio)[:5]:
        say(result)
    return 0


def say(result: ChoiceResult) -> None:
    """Print one line of the table."""
    choice = result.choice
    print(
        f"{choice.cores:5} {choice.workers:7} {choice.session_threads:7} {choice.max_batch:5}"
        f" {1000 * choice.linger_seconds:4g} ms {result.per_second:8,.0f} {result.ratio:5.2f} x"
        f" {1000 * result.p99_seconds:7.0f} ms {result.p99_ratio:5.2f} x",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
