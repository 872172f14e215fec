"""A job: an item, or a block of rows, on its way through the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from models.model import Array, InvalidInputError
from serving.inference.context import Priority
from serving.telemetry import tracing

Inputs = dict[str, Array]
Output = Array | InvalidInputError

SIZE = attrgetter("size")


class Job:
    """An item, or a block of rows, on its way through the queue, for one or more requests.

    `future` is cancelled once nobody waits for it: the job is then dropped. `deadline` is a time of
    `time.monotonic`. `known` is set when its output was found in a cache meanwhile. `size` is the number
    of items it holds. `inputs` are the graph's, those of a block with a batch axis, and `length` is the
    number of their elements per item, by which jobs are sorted. `parts` are those of a block that have been cut off.
    """

    __slots__ = (
        "block",
        "deadline",
        "future",
        "inputs",
        "item",
        "known",
        "length",
        "parts",
        "priority",
        "queued",
        "settled",
        "size",
        "trace",
        "waiters",
    )

    def __init__(
        self,
        item: Any,
        deadline: float,
        loop: asyncio.AbstractEventLoop,
        *,
        block: bool = False,
        priority: Priority = Priority.INTERACTIVE,
    ) -> None:
        self.item = item
        self.block = block
        self.size = len(item) if block else 1
        self.deadline = deadline
        self.priority = priority
        self.future: asyncio.Future[Output] = loop.create_future()
        self.waiters = 0
        self.known = self.settled = False
        self.inputs: Inputs = {}
        self.length = 0
        self.queued = 0.0
        self.trace = tracing.here()
        self.parts: tuple[Part, ...] = ()

    @property
    def left(self) -> int:
        """The number of items that have not been cut off."""
        return self.size - total_size(self.parts)

    def cut(self, most: int) -> Job:
        """Cut off the next rows of a block, at most `most`, as a job; return the job itself where that is all of it."""
        if not self.parts and self.size <= most:
            return self
        left = self.left
        part = Part(self, self.size - left, min(most, left))
        self.parts = (*self.parts, part)
        return part

    def settle(self, output: Output | BaseException) -> None:
        """Resolve the future with the output, or with the error."""
        self.settled = True
        self.inputs = {}
        if self.future.done():
            return
        if isinstance(output, BaseException) and not isinstance(output, InvalidInputError):
            self.future.set_exception(raisable(output))
            self.future.exception()  # marked as seen: those who wait raise it, and when nobody does, that is no fault
        else:
            self.future.set_result(output)


class Part(Job):
    """Some rows of a block, which are computed on their own; the block is settled by the last of its parts."""

    __slots__ = ("output", "whole")

    def __init__(self, whole: Job, start: int, size: int) -> None:
        # The future is that of the block, so that a part of it is dropped once nobody waits for the block.
        self.whole = whole
        self.item = whole.item[start : start + size]
        self.block = True
        self.size = size
        self.deadline = whole.deadline
        self.priority = whole.priority
        self.future = whole.future
        self.settled = False
        self.inputs = {}
        self.length = 0
        self.queued = whole.queued
        self.trace = whole.trace
        self.output: Array | None = None

    def settle(self, output: Output | BaseException) -> None:
        """Keep the output until the other parts have theirs as well; fail the block with an error."""
        self.settled = True
        self.inputs = {}
        if isinstance(output, BaseException):
            self.whole.settle(output)
            return
        self.output = output
        outputs = [part.output for part in self.whole.parts if part.output is not None]
        if sum(map(len, outputs)) == self.whole.size:
            self.whole.settle(np.concatenate(outputs))


def raisable(error: BaseException) -> Exception:
    """Return the error where a future accepts it and it ends only a request; else a RuntimeError that it causes."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    fault = RuntimeError(repr(error))
    fault.__cause__ = error
    return fault


def total_size(jobs: Iterable[Job]) -> int:
    """Return the number of items that jobs hold."""
    return sum(map(SIZE, jobs))


def without(jobs: Iterable[Job], others: Iterable[Job]) -> list[Job]:
    """Return the jobs that are not among the others."""
    gone = set(map(id, others))
    return [job for job in jobs if id(job) not in gone]


def wake_up(waiter: asyncio.Future[None], _: object) -> None:
    """Have those go on who await `waiter`."""
    if not waiter.done():
        waiter.set_result(None)


async def outcome_of(jobs: Collection[Job]) -> None:
    """Wait until jobs are done; cancel those for which nobody waits any more."""
    loop = asyncio.get_running_loop()
    for job in jobs:
        job.waiters += 1
    landing = False
    try:
        for job in jobs:
            landing = job.future.done()
            if not landing:
                # Awaiting the future itself would cancel it for everybody when one of those who wait is cancelled;
                # asyncio.wait does the same, and takes several times as long.
                waiter = loop.create_future()
                wake = partial(wake_up, waiter)
                job.future.add_done_callback(wake)
                try:
                    await waiter
                finally:
                    job.future.remove_done_callback(wake)
        if landing:
            await asyncio.sleep(0)  # what is called once a job is done, as to store its output, has its turn before
    finally:
        for job in jobs:
            job.waiters -= 1
            if not job.waiters:
                job.future.cancel()  # no effect on a finished job
