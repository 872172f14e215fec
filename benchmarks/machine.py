"""What figures depend on: the processor, how fast it is at the moment, and what others take of it."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import psutil

from serving.inference.instruction_set import instruction_set

# Steps of the calibration loop, and how often it is run, of which the best counts.
STEPS, TRIES = 2_000_000, 3


def calibration_seconds() -> float:
    """Return the seconds that a fixed loop of Python takes: half as many, twice as fast a core."""

    def loop() -> float:
        started = time.perf_counter()
        total = 0
        for step in range(STEPS):
            total ^= step * 7
        return time.perf_counter() - started

    return min(loop() for _ in range(TRIES))


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.processor()


def machine() -> dict[str, Any]:
    """Return facts about the machine."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "instruction_set": instruction_set(),
        "calibration_seconds": calibration_seconds(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def described(facts: dict[str, Any]) -> str:
    """Return a line on a machine."""
    speed = f"{STEPS / 1e6:g} million steps of Python in {facts['calibration_seconds']:.3f} s"
    return f"{facts['cores']} cores of {facts['cpu']}, {facts['instruction_set']}, {speed}"


class Steal:
    """The share of the machine's time that its host has given to others, since this was made; 0 where it is unknown."""

    def __init__(self) -> None:
        self.before = psutil.cpu_times()

    def share(self) -> float:
        """Return the share so far, between 0 and 1."""
        now = psutil.cpu_times()
        stolen = getattr(now, "steal", 0.0) - getattr(self.before, "steal", 0.0)
        whole = sum(now) - sum(self.before)
        return float(stolen / whole) if whole else 0.0
