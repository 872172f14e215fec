"""Admission to a model's queue: how long new work is foreseen to wait, and whether that is too long."""

from __future__ import annotations

from serving.inference.context import Priority
from serving.inference.errors import OverloadedError
from serving.inference.pace import Pace
from serving.inference.queue import Queue
from serving.inference.share import BatchShare

# Of the items that were taken from the queue, the most that are taken to be preprocessed still.
MOST_PREPARING = 64


class Admission:
    """Refuses work that could not be computed in time, by the pace of the last batches.

    Interactive work is refused when it would wait longer than `queue_seconds` or than is left until its deadline. Batch
    work may wait for long, as that of a job, which sends one piece after the other with a late deadline: it is refused
    only when the deadline would pass even if no more interactive work came.

    Either is refused when `queue_items` of its own priority wait already; single items do not count blocks.
    """

    def __init__(
        self, queue: Queue, pace: Pace, share: BatchShare, *, max_batch: int, queue_items: int, queue_seconds: float
    ) -> None:
        self.queue = queue
        self.pace = pace
        self.share = share
        self.max_batch = max_batch
        self.queue_items = queue_items
        self.queue_seconds = queue_seconds
        self.unfinished = 0  # items in the queue and in inference

    def expected_wait(self, priority: Priority = Priority.INTERACTIVE, *, block: bool = False) -> float:
        """Return the seconds that a new item, or a block, is expected to wait."""
        batch = self.queue.batch_size
        preparing = self.pace.preparing
        prepared = batch * preparing[Priority.BATCH]
        # Rows of a block are preprocessed in one go, so that only single items count, and of what is computed a few.
        single = len(self.queue.items) + min(self.unfinished - batch - self.queue.size, MOST_PREPARING)
        others = single * preparing[Priority.INTERACTIVE]
        if priority is Priority.BATCH:
            return self.seconds(self.unfinished) + others + prepared
        # Of the blocks, single items wait only for those that are taken together with them.
        ahead = self.unfinished - batch if block else self.unfinished - batch - max(0, self.queue.rows - self.max_batch)
        seconds = self.seconds(ahead) + others
        return seconds + self.share.seconds_beside(seconds, self.seconds(batch) + prepared) if batch else seconds

    def seconds(self, items: int) -> float:
        """Return the seconds of inference that items take in full batches."""
        full, rest = divmod(items, self.max_batch)
        return full * self.pace.seconds(self.max_batch) + self.pace.seconds(rest)

    def check(self, left_seconds: float, priority: Priority, *, block: bool) -> None:
        """Raise OverloadedError when a new item, or a block, would wait too long or finds the queue full."""
        if self.queue_items and not self.unfinished:
            return
        wait = self.expected_wait(priority, block=block)
        queue = self.queue
        if priority is Priority.BATCH:
            waiting, longest = queue.batch_size, left_seconds
        else:
            waiting = queue.size if block else len(queue.items)
            longest = min(self.queue_seconds, left_seconds)
        if waiting >= self.queue_items or wait > longest:
            raise OverloadedError(max(wait - self.queue_seconds, 0.0))
