"""Watch a server from outside: the memory of its processes, and the pauses in its responses."""

from __future__ import annotations

import gc
import http.client
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import psutil

# The memory limit of a pod.
MAX_MEMORY_BYTES = 2 * 2**30
KILL_BYTES = 2 * MAX_MEMORY_BYTES
# A pause may last this share of `json.loads` of the body, plus what counts as noise on the machine.
MAX_RATIO = 0.5
NOISE_SECONDS = 0.1
# Parts of a body, as divisors of its length, whose parsing may already show that the pause is short enough.
PARTS = (16, 4)
TRIES = 3
IDLE_SECONDS = 2.0
SAMPLE_SECONDS = 0.01
PROBE_SECONDS = 0.002
# No live server takes this long to respond.
FROZEN_SECONDS = 40.0
ROW = b'{"a":1.5,"b":"monday","c":null},'


class Watch:
    """A loop in a thread that runs for the duration of a `with` block."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(FROZEN_SECONDS + 10)

    def run(self) -> None:
        """Loop until `ended` is set."""
        raise NotImplementedError


class MemoryWatch(Watch):
    """The peak in bytes of what `read` returned since it was last set to 0; `lost` once a process has ended.

    `kill` ends a server that takes too much before it starves the machine.
    """

    def __init__(self, read: Callable[[], int], kill: Callable[[], None]) -> None:
        super().__init__()
        self.read = read
        self.kill = kill
        self.peak_bytes = 0
        self.lost = False

    def run(self) -> None:
        """Sample until `ended` is set."""
        while not (self.lost or self.ended.wait(SAMPLE_SECONDS)):
            self.sample()

    def sample(self) -> int:
        """Take a sample and return the peak in bytes."""
        try:
            self.peak_bytes = max(self.peak_bytes, self.read())
        except psutil.NoSuchProcess:
            self.lost = True
        if self.peak_bytes > KILL_BYTES and not self.lost:
            self.lost = True
            self.kill()
        return self.peak_bytes


class PauseWatch(Watch):
    """Probes /livez continually on a keep-alive connection and records the response times."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.changed = threading.Condition()
        # When each probe was sent, by the performance counter, and the seconds it took.
        self.probes: list[tuple[float, float]] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Probe until `ended` is set."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=FROZEN_SECONDS)
        while not self.ended.wait(PROBE_SECONDS):
            start = time.perf_counter()
            try:
                connection.request("GET", "/livez")
                response = connection.getresponse()
                response.read()
                fault = "" if response.status == 200 else f"/livez answered {response.status}"
            except (OSError, http.client.HTTPException) as error:
                fault = f"/livez: {error!r}"
                connection.close()
            if fault and fault not in self.failures:
                self.failures.append(fault)
            with self.changed:
                self.probes.append((start, time.perf_counter() - start))
                self.changed.notify_all()
        connection.close()

    def longest_since(self, start: float) -> float:
        """Return the seconds of the slowest probe sent between `start`, by the performance counter, and now."""
        now = time.perf_counter()
        with self.changed:
            self.changed.wait_for(lambda: self.probes and self.probes[-1][0] >= now, timeout=FROZEN_SECONDS)
            recent = [seconds for sent, seconds in self.probes if sent >= start]
            del self.probes[:-1]
        return max(recent, default=FROZEN_SECONDS)

    def noise_seconds(self) -> float:
        """Measure how long a pause in seconds is noise on this machine, while no requests are sent."""
        start = time.perf_counter()
        time.sleep(IDLE_SECONDS)
        return max(NOISE_SECONDS, 2 * self.longest_since(start))


class Pause(NamedTuple):
    """How long a server did not respond while it handled a body, and how long `json.loads` takes for that body."""

    seconds: float
    json_seconds: float

    @property
    def ratio(self) -> float:
        """Return the pause as a multiple of `json.loads`."""
        return self.seconds / self.json_seconds

    def fits(self, noise_seconds: float = NOISE_SECONDS) -> bool:
        """Return whether the pause is short enough, given how long a pause is noise."""
        return self.seconds <= noise_seconds + MAX_RATIO * self.json_seconds


def json_seconds(body: bytes) -> float:
    """Measure `json.loads` of a body, in seconds.

    For invalid JSON, which it may reject early, measure rows of the same size instead.
    """
    seconds, valid = parsed(body)
    if valid:
        return seconds
    rows = b"[" + ROW * 2**15 + b"0]"
    return parsed(rows)[0] * len(body) / len(rows)


def part_takes(body: bytes, seconds: float) -> bool:
    """Return whether `json.loads` takes at least `seconds` for a part of a body, as it then does for the whole.

    The whole of a large body takes a second or more.
    """
    return any(parsed(body[: len(body) // part])[0] >= seconds for part in PARTS)


def parsed(body: bytes) -> tuple[float, bool]:
    """Run `json.loads` with the garbage collector off, as in `timeit`; return its seconds, and whether it succeeds."""
    gc.disable()
    start = time.perf_counter()
    try:
        json.loads(body)
        return time.perf_counter() - start, True
    except (ValueError, RecursionError):
        return time.perf_counter() - start, False
    finally:
        gc.enable()


@dataclass(frozen=True)
class Attempt:
    """The result of one body: what is wrong, or None, and the longest pause meanwhile."""

    fault: str | None
    pause_seconds: float
    status: int = 0


async def judged(
    attempt: Callable[[], Awaitable[Attempt]], body: bytes, noise_seconds: float = NOISE_SECONDS
) -> tuple[Attempt, str | None]:
    """Return the first attempt that succeeds, or the last of TRIES with what is wrong with it.

    Other load on the machine may slow down one attempt, but rarely all of them.
    """
    fault: str | None = None
    for _ in range(TRIES):
        made = await attempt()
        fault = made.fault
        excess = made.pause_seconds - noise_seconds
        if fault is None and excess > 0 and not part_takes(body, excess / MAX_RATIO):
            pause = Pause(made.pause_seconds, json_seconds(body))
            if not pause.fits(noise_seconds):
                fault = f"/livez paused for {pause.seconds:.3f} s, {pause.ratio:.2f} times json.loads of the body"
        if fault is None or made.pause_seconds >= FROZEN_SECONDS:
            break
    return made, fault
