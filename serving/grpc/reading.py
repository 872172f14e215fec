"""Reading of messages, bounded in time and, all together, in memory.

grpc gathers a message, up to the largest size, before it hands it over, and does not say how much of it has come. But
it does so only for a message that is being read: of others it takes what the window of their stream admits, 64 KiB. So
the messages that are read at a time are bounded by their number, as if each had the largest size.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import grpc
from grpc.aio import ServicerContext

from serving.grpc.errors import CallError
from serving.grpc.held import Held
from serving.grpc.memory import return_free_memory
from serving.http.body import START_BYTES, BytesInFlight

# With more that wait for their turn, those that have waited longest are refused; a burst of calls waits, too.
MAX_WAITING = 2_048
# While some wait, the others are checked so often, and each may last for so many checks: all that wait are to have
# their turn in TURNS times as many. Checks are counted, not seconds: where the server is busy, messages wait for it.
CHECK_SECONDS = 0.01
SLOW_CHECKS, TURNS, LEAST_CHECKS = 50, 20, 3
# How long after a large message its memory is returned.
RETURN_SECONDS = 2.0


class Read:
    """A message that a task reads, or is to read when it is its `turn`; `checks` counts how many it has lasted for."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.turn: asyncio.Future[None] | None = None
        self.checks = 0
        self.given_up = False


class Reads:
    """Reads messages of at most `max_message_bytes`, so many at a time that they take little memory.

    Others wait, and the newest is the next: a small message then comes at once, so that those that wait for long are
    mostly slow clients. While some wait, a message that takes long is given up. Clients that send nothing delay others,
    but cannot shut them out.
    """

    def __init__(self, in_flight: BytesInFlight, max_message_bytes: int, max_waiting: int = MAX_WAITING) -> None:
        self.in_flight = in_flight
        self.max_message_bytes = max_message_bytes
        self.max_waiting = max_waiting
        # Each in the order of their beginnings.
        self.reading: dict[Read, None] = {}
        self.waiting: dict[Read, None] = {}
        self.checks: asyncio.TimerHandle | None = None
        self.returns: asyncio.TimerHandle | None = None

    @property
    def slots(self) -> int:
        """How many messages may be read at a time: what would fill half of the room for bytes in flight, at least one.

        The other half is for copies: grpc makes two of each message.
        """
        return max(1, (self.in_flight.max_bytes - self.in_flight.bytes) // 2 // self.max_message_bytes)

    async def read(self, context: ServicerContext, seconds: float) -> Held | None:
        """Return a message, which is yet to be held, or None where the client sends no more.

        Raises CallError where it does not come within `seconds`, or is given up.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        read = Read(task)
        try:
            if len(self.reading) < self.slots:
                self.begin(read)
            else:
                seconds = await self.turn_of(read, seconds)
            message = await self.received(read, context, seconds)
        except TimeoutError:
            text = f"the message did not come within {seconds:g} seconds"
            raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, HTTPStatus.REQUEST_TIMEOUT, text) from None
        except asyncio.CancelledError:
            if read.given_up and not task.uncancel():
                text = "overloaded, try again later: too many large or slow messages are on their way"
                raise CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.SERVICE_UNAVAILABLE, text) from None
            raise
        except grpc.aio.BaseError:  # the call has ended
            return None
        if message is grpc.aio.EOF:
            return None
        if len(message) > START_BYTES and self.returns is None:
            self.returns = asyncio.get_running_loop().call_later(RETURN_SECONDS, self.return_memory)
        return Held(message, self.in_flight, self.max_message_bytes)

    async def received(self, read: Read, context: ServicerContext, seconds: float) -> Any:
        """Return a message, or EOF; raise TimeoutError.

        Cancelled itself, grpc's own reading would never free what has come of the message. So it is left to end by
        itself, as it does when the call has ended, and counts until then.
        """
        loop = read.task.get_loop()
        receiving = loop.create_task(context.read())
        over: asyncio.Future[None] = loop.create_future()  # received, or its time is over
        timer = loop.call_later(seconds, wake, over)

        def received(receiving: asyncio.Task[Any]) -> None:
            if not receiving.cancelled():
                receiving.exception()  # it has one where the call has ended; nobody else may ask for it
            self.end(read)
            wake(over)

        receiving.add_done_callback(received)
        try:
            await over
        finally:
            timer.cancel()
        if not receiving.done():
            read.given_up = True  # as of now
            raise TimeoutError
        return receiving.result()

    def begin(self, read: Read) -> None:
        """Count a message as being read."""
        self.reading[read] = None

    async def turn_of(self, read: Read, seconds: float) -> float:
        """Wait until a message may be read; return how much of `seconds` is left, or raise TimeoutError."""
        loop = read.task.get_loop()
        if len(self.waiting) >= self.max_waiting:
            oldest = next(iter(self.waiting))
            del self.waiting[oldest]
            give_up(oldest)
        read.turn = loop.create_future()
        self.waiting[read] = None
        if self.checks is None:
            self.checks = loop.call_later(CHECK_SECONDS, self.check)
        end = loop.time() + seconds
        try:
            async with asyncio.timeout(seconds):
                await read.turn
        except BaseException:
            self.waiting.pop(read, None)
            self.end(read)
            raise
        return end - loop.time()

    def end(self, read: Read) -> None:
        """Stop counting a message as being read, and let those that wait begin."""
        if read in self.reading:
            del self.reading[read]
            self.begin_waiting()

    def begin_waiting(self) -> None:
        """Let the newest of those that wait begin where they may."""
        while self.waiting and len(self.reading) < self.slots:
            newest, _ = self.waiting.popitem()
            self.begin(newest)
            if newest.turn is not None:
                wake(newest.turn)  # without effect where it is being cancelled; then it ends itself

    def check(self) -> None:
        """Give up messages that take too long while others wait, again and again until none does."""
        self.checks = None
        self.begin_waiting()  # bytes in flight may have been released
        if not self.waiting:
            return
        share = SLOW_CHECKS * TURNS * self.slots // len(self.waiting)
        most = max(LEAST_CHECKS, min(SLOW_CHECKS, share))
        for read in self.reading:
            read.checks += 1
            if read.checks > most:
                give_up(read)
        self.checks = asyncio.get_running_loop().call_later(CHECK_SECONDS, self.check)

    def return_memory(self) -> None:
        """Return the memory of large messages to the system."""
        self.returns = None
        asyncio.get_running_loop().run_in_executor(None, return_free_memory)


def wake(future: asyncio.Future[None]) -> None:
    """Let whoever waits for a future go on."""
    if not future.done():
        future.set_result(None)


def give_up(read: Read) -> None:
    """Have the reading of a message raise CallError."""
    if not read.given_up:
        read.given_up = True
        read.task.cancel()
