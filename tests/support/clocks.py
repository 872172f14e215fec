"""Time in tests: a clock set by hand, and polling until a condition holds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

# How long a server may take to start, and its client to notice that it is back.
START_SECONDS = 60
RECOVERY_SECONDS = 60


class Clock:
    """A clock that only moves when a test advances it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.lock = threading.Lock()
        # Conditions being waited on, until they are notified or the clock advances.
        self.awaited: list[threading.Condition] = []

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Advance the clock and wake all waiters, which check it again."""
        with self.lock:
            self.now += seconds
        for condition in [*self.awaited]:
            with condition:
                condition.notify_all()

    def wait(self, condition: threading.Condition, seconds: float) -> bool:
        """Wait as `Condition.wait` does, but measure `seconds` on this clock."""
        end = self.now + seconds
        self.awaited.append(condition)
        condition.wait()
        self.awaited.remove(condition)
        return self.now < end


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Poll until the condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        time.sleep(0.05)


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = RECOVERY_SECONDS) -> None:
    """Poll until the condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        await asyncio.sleep(0.05)
