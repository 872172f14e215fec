"""What the scenarios of `benchmarks.bench` share."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.assets import Assets
from benchmarks.wrk import write_bodies
from loadtest.inputs import JSON, Request


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


def say(scenario: str, figure: float, meaning: str, detail: str) -> None:
    """Print one line of the result."""
    print(f"{scenario:<44} {figure:6.2f}  {meaning:<38} {detail}", flush=True)
