"""Time: a clock that tests set, and waiting for what will be so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

# How long a server may take to start, and another to notice that it is there again.
START_SECONDS = 60
RECOVERY_SECONDS = 60


class Clock:
    """A clock that stands until a test sets it on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lock = threading.Lock()
        # Conditions that somebody waits for until they are notified or the clock is set on.
        self.awaited: list[threading.Condition] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Set the clock on, and have those who wait look at it."""
        with self.lock:
            self.now += seconds
        for condition in [*self.awaited]:
            with condition:
                condition.notify_all()

    def wait(self, condition: threading.Condition, seconds: float) -> bool:
        """Wait as `Condition.wait` does, but for seconds of this clock."""
        end = self.now + seconds
        self.awaited.append(condition)
        condition.wait()
        self.awaited.remove(condition)
        return self.now < end


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Return once it holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        time.sleep(0.05)


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = RECOVERY_SECONDS) -> None:
    """Return once it holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        await asyncio.sleep(0.05)
