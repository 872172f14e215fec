"""What the scenarios of `benchmarks.bench` share."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare.assets import Assets
from benchmarks.wrk import write_bodies
from loadtest.inputs import JSON, Request
from loadtest.open_loop import arrivals, due_times, run


@dataclass
class SpeedBench:
    """What every scenario needs: the BentoML home, a folder for bodies, more models, number and length of rounds."""

    home: Path
    folder: Path
    assets: Assets
    rounds: int
    seconds: float

    def ratio(self, measure: Callable[[int], tuple[float, float]]) -> tuple[float, float, float]:
        """Return the median of the ratios of `measure(round)`, and the medians of the two figures it compares."""
        pairs = [measure(number) for number in range(self.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        return statistics.median(a / b for a, b in pairs), ours, theirs

    def bodies(self, name: str, contents: Iterable[Any]) -> Path:
        """Write a file of JSON bodies and return its path."""
        requests = (Request("", JSON, json.dumps(content).encode()) for content in contents)
        return write_bodies(self.folder / name, requests)


def open_loop_p99(address: str, per_second: float, seconds: float, requests: Iterator[Request]) -> float:
    """Offer requests at random times and return the 99th percentile of their latency in ms.

    Raises RuntimeError where one fails or is refused.
    """
    due = due_times(per_second, seconds, cv=1)
    seen = run(arrivals(address, list(itertools.islice(requests, len(due))), due))
    if seen.failed or seen.refused:
        raise RuntimeError(f"{len(seen.failed)} requests failed, {len(seen.refused)} were refused")
    return float(np.quantile(np.array(seen.accepted), 0.99)) * 1000


def say(scenario: str, figure: float, meaning: str, detail: str) -> None:
    """Print one line of the result."""
    print(f"{scenario:<44} {figure:6.2f}  {meaning:<38} {detail}", flush=True)
