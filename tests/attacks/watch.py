"""Watches a server from beside: the memory of its processes, and how long it answers nobody."""

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

# Of a pod.
MAX_MEMORY_BYTES = 2 * 2**30
KILL_BYTES = 2 * MAX_MEMORY_BYTES
# A pause may take so much of what `json.loads` of the body takes, and on any machine as long as noise does.
MAX_RATIO = 0.5
NOISE_SECONDS = 0.1
TRIES = 3
IDLE_SECONDS = 2.0
SAMPLE_SECONDS = 0.01
PROBE_SECONDS = 0.002
# So long nothing that is alive takes.
FROZEN_SECONDS = 40.0
ROW = b'{"a":1.5,"b":"monday","c":null},'


class Watch:
    """Something that is done again and again in a thread while a `with` block runs."""

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
        """Do it until `ended` is set."""
        raise NotImplementedError


class MemoryWatch(Watch):
    """The most memory in bytes that `read` told, since this was last set to 0; `lost` once a process has ended.

    A server that takes too much is ended by `kill` before it takes the machine from others.
    """

    def __init__(self, read: Callable[[], int], kill: Callable[[], None]) -> None:
        super().__init__()
        self.read = read
        self.kill = kill
        self.peak_bytes = 0
        self.lost = False

    def run(self) -> None:
        """Read until the end."""
        while not (self.lost or self.ended.wait(SAMPLE_SECONDS)):
            self.sample()

    def sample(self) -> int:
        """Read once more, and return the peak."""
        try:
            self.peak_bytes = max(self.peak_bytes, self.read())
        except psutil.NoSuchProcess:
            self.lost = True
        if self.peak_bytes > KILL_BYTES and not self.lost:
            self.lost = True
            self.kill()
        return self.peak_bytes


class PauseWatch(Watch):
    """Asks /livez on a kept connection, one time after another, and notes how long each answer takes."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.changed = threading.Condition()
        # When each probe was sent, by the monotonic clock, and the seconds it took.
        self.probes: list[tuple[float, float]] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask until the end."""
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
        """Return the seconds of the slowest probe sent since `start`, by the performance counter, and before now."""
        now = time.perf_counter()
        with self.changed:
            self.changed.wait_for(lambda: self.probes and self.probes[-1][0] >= now, timeout=FROZEN_SECONDS)
            recent = [seconds for sent, seconds in self.probes if sent >= start]
            del self.probes[:-1]
        return max(recent, default=FROZEN_SECONDS)

    def noise_seconds(self) -> float:
        """Return how long a pause comes of nothing on this machine, in seconds: measured now, while nothing is sent."""
        start = time.perf_counter()
        time.sleep(IDLE_SECONDS)
        return max(NOISE_SECONDS, 2 * self.longest_since(start))


class Pause(NamedTuple):
    """How long a server answered nobody while it had a body, and what `json.loads` of that body took."""

    seconds: float
    json_seconds: float

    @property
    def ratio(self) -> float:
        """The pause as a multiple of `json.loads`."""
        return self.seconds / self.json_seconds

    def fits(self, noise_seconds: float = NOISE_SECONDS) -> bool:
        """Return whether it is short enough, given how long a pause comes of nothing."""
        return self.seconds <= noise_seconds + MAX_RATIO * self.json_seconds


def json_seconds(body: bytes) -> float:
    """Return what `json.loads` of a body takes now, in seconds.

    Of what is no JSON it would tell only how soon that shows; there it is what as many bytes of rows take.
    """
    try:
        return timed(body)
    except (ValueError, RecursionError):
        rows = b"[" + ROW * 2**15 + b"0]"
        return timed(rows) * len(body) / len(rows)


def timed(body: bytes) -> float:
    """Return the seconds that `json.loads` takes, without the garbage collector, as `timeit` does it."""
    gc.disable()
    try:
        start = time.perf_counter()
        json.loads(body)
        return time.perf_counter() - start
    finally:
        gc.enable()


@dataclass(frozen=True)
class Attempt:
    """What came of one body: what is wrong, if anything is, and the longest pause meanwhile."""

    fault: str | None
    pause_seconds: float
    status: int = 0


async def judged(
    attempt: Callable[[], Awaitable[Attempt]], body: bytes, noise_seconds: float = NOISE_SECONDS
) -> tuple[Attempt, str | None]:
    """Return an attempt that succeeds, or the last of TRIES with what is wrong with it.

    Whatever else the machine does makes one attempt slow, seldom all.
    """
    fault: str | None = None
    for _ in range(TRIES):
        made = await attempt()
        fault = made.fault
        if fault is None and made.pause_seconds > noise_seconds:
            pause = Pause(made.pause_seconds, json_seconds(body))
            if not pause.fits(noise_seconds):
                fault = f"/livez paused for {pause.seconds:.3f} s, {pause.ratio:.2f} times json.loads of the body"
        if fault is None or made.pause_seconds >= FROZEN_SECONDS:
            break
    return made, fault
