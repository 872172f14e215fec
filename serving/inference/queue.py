"""The queue before a model: single items first, then blocks of rows, a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from models.model import Array, InvalidInputError
from serving.telemetry import tracing

Inputs = dict[str, Array]
Output = Array | InvalidInputError

SIZE = attrgetter("size")


class Job:
    """An item, or a block of rows, on its way through the queue, for one or more requests.

    `future` is cancelled once nobody waits for it: the job is then dropped. `deadline` is a time of
    `time.monotonic`. `known` is set when its output was found in a cache meanwhile. `size` is the number
    of items it holds. `inputs` are the graph's, those of a block with a batch axis, and `length` is the
    number of their elements per item, by which jobs are sorted.
    """

    __slots__ = (
        "block",
        "deadline",
        "future",
        "inputs",
        "item",
        "known",
        "length",
        "queued",
        "settled",
        "size",
        "trace",
        "waiters",
    )

    def __init__(self, item: Any, deadline: float, loop: asyncio.AbstractEventLoop, *, block: bool = False) -> None:
        self.item = item
        self.block = block
        self.size = len(item) if block else 1
        self.deadline = deadline
        self.future: asyncio.Future[Output] = loop.create_future()
        self.waiters = 0
        self.known = self.settled = False
        self.inputs: Inputs = {}
        self.length = 0
        self.queued = 0.0
        self.trace = tracing.here()

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


class Queue:
    """Waiting jobs. Single items go before blocks, so that a bulk request holds up no small one."""

    def __init__(self) -> None:
        self.items: list[Job] = []
        self.blocks: deque[Job] = deque()
        self.rows = 0  # in the blocks
        self.size = 0  # items, those in blocks included

    def put(self, jobs: Iterable[Job]) -> None:
        """Append jobs to the queue."""
        for job in jobs:
            self.size += job.size
            if job.block:
                self.blocks.append(job)
                self.rows += job.size
            else:
                self.items.append(job)

    def take(self, items: int, rows: int) -> list[Job]:
        """Remove the jobs that wait longest: at most `items` single items, then a block, and more up to `rows` rows."""
        taken, self.items = self.items[:items], self.items[items:]
        self.size -= len(taken)
        first = True
        while self.blocks and (first or self.blocks[0].size <= rows):
            first = False
            block = self.blocks.popleft()
            taken.append(block)
            self.rows -= block.size
            self.size -= block.size
            rows -= block.size
        return taken


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
