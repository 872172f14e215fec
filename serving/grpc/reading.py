"""Reading of messages, bounded in time and, all together, in memory.

grpc gathers a message up to its largest size before it hands it over, and does not say how much of it has come. What
has been handed over counts among the bytes in flight; what is still coming is bounded here, by the memory of the
process. A message that nobody reads takes no more than the window of its stream.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
from http import HTTPStatus
from typing import Any

import grpc
import psutil
from grpc.aio import ServicerContext

from serving.grpc.errors import CallError
from serving.http.body import BytesInFlight

# The share of the bytes in flight that messages on their way in may take beside: so much more memory, and so many
# messages of the largest size that are never given up.
SHARE = 4
WATCH_SECONDS = 0.02


class Read:
    """A message on its way in, read by a task."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.given_up = False


class Reads:
    """Reads messages of at most `max_message_bytes`, as they come.

    While many are on their way, their memory is watched: where it grows too much, the oldest are given up, since what
    takes longest is a large message or a slow client. Small messages come at once and are never among them.
    """

    def __init__(self, in_flight: BytesInFlight, max_message_bytes: int) -> None:
        self.in_flight = in_flight
        self.max_message_bytes = max_message_bytes
        self.room = in_flight.max_bytes // SHARE
        self.safe = max(1, self.room // max_message_bytes)
        self.unfinished: dict[Read, None] = {}
        self.watching: asyncio.Task[None] | None = None

    async def read(self, context: ServicerContext, seconds: float) -> bytes | None:
        """Return a message as it came, or None where the client sends no more.

        Raises CallError where it does not come within `seconds`, or is given up.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        read = Read(task)
        self.unfinished[read] = None
        if len(self.unfinished) > self.safe and self.watching is None:
            self.watching = asyncio.create_task(self.watch())
        try:
            async with asyncio.timeout(seconds):
                message = await context.read()
        except TimeoutError:
            text = f"the message did not come within {seconds:g} seconds"
            raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, HTTPStatus.REQUEST_TIMEOUT, text) from None
        except asyncio.CancelledError:
            if read.given_up and not task.uncancel():
                raise overloaded() from None
            raise
        finally:
            self.unfinished.pop(read, None)
        return None if message is grpc.aio.EOF else message

    async def watch(self) -> None:
        """Give up the oldest messages while those that are on their way take too much memory."""
        process = psutil.Process()
        start = process.memory_info().rss - self.in_flight.bytes
        try:
            while len(self.unfinished) > self.safe:
                await asyncio.sleep(WATCH_SECONDS)
                if process.memory_info().rss - self.in_flight.bytes > start + self.room:
                    self.give_up()
                    await asyncio.sleep(0)
                    await asyncio.to_thread(return_memory)
        finally:
            self.watching = None

    def give_up(self) -> None:
        """Give up the older half of the messages that are on their way, all but `safe` where these are more."""
        count = min((len(self.unfinished) + 1) // 2, max(0, len(self.unfinished) - self.safe))
        for read in [*self.unfinished][:count]:
            read.given_up = True
            read.task.cancel()
            del self.unfinished[read]


def overloaded() -> CallError:
    """Return the error of a message that was given up."""
    text = "overloaded, try again later: the messages on their way take too much memory"
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.SERVICE_UNAVAILABLE, text)


def return_memory() -> None:
    """Return memory that is free to the system; glibc else keeps what small blocks, such as grpc's, have left."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
