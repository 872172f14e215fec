"""The queue before a model: single items, then blocks of rows, then batch work."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from serving.inference.context import Priority
from serving.inference.job import Job


class Queue:
    """Waiting jobs. Of interactive ones, single items go before blocks, so that a bulk request holds up no small one.

    Batch work waits on its own, items and blocks in the order in which they came.
    """

    def __init__(self) -> None:
        self.items: list[Job] = []
        self.blocks: deque[Job] = deque()
        self.rows = 0  # in the blocks
        self.size = 0  # interactive items, those in blocks included
        self.batch: deque[Job] = deque()
        self.batch_size = 0  # items of batch work, likewise

    def put(self, jobs: Iterable[Job]) -> None:
        """Append jobs to the queue."""
        for job in jobs:
            if job.priority is Priority.BATCH:
                self.batch.append(job)
                self.batch_size += job.size
            elif job.block:
                self.put_block(job)
            else:
                self.items.append(job)
                self.size += 1

    def put_block(self, block: Job) -> None:
        """Append an interactive block."""
        self.blocks.append(block)
        self.rows += block.left
        self.size += block.left

    def take(self, items: int, rows: int) -> list[Job]:
        """Remove the interactive jobs that wait longest: at most `items` items, then a block, and more up to `rows`."""
        taken, self.items = self.items[:items], self.items[items:]
        self.size -= len(taken)
        first = True
        while self.blocks and (first or self.blocks[0].left <= rows):
            first = False
            block = self.blocks.popleft()
            block = block.cut(block.left)
            taken.append(block)
            self.rows -= block.size
            self.size -= block.size
            rows -= block.size
        return taken

    def take_batch(self, most: int) -> Job | None:
        """Remove the job of batch work that waits longest, a block cut to `most` rows; return None where none waits."""
        if not self.batch:
            return None
        waiting = self.batch[0]
        job = waiting.cut(most)
        if job is waiting or not waiting.left:
            self.batch.popleft()
        self.batch_size -= job.size
        return job

    def promote(self, jobs: Iterable[Job]) -> None:
        """Make jobs interactive; those that wait as batch work go to the end of what waits as interactive work."""
        for job in jobs:
            job.priority = Priority.INTERACTIVE
        batch, self.batch = self.batch, deque()
        for job in batch:
            if job.priority is Priority.BATCH:
                self.batch.append(job)
                continue
            self.batch_size -= job.left
            self.put([job])

    def drain(self) -> list[Job]:
        """Remove all jobs."""
        jobs = [*self.items, *self.blocks, *self.batch]
        self.items, self.blocks, self.batch = [], deque(), deque()
        self.rows = self.size = self.batch_size = 0
        return jobs
