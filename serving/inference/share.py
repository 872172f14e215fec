"""The share of computing time that batch work gets while interactive work waits."""

from __future__ import annotations

import threading

from serving.inference.context import Priority
from serving.inference.queue import Queue

# About how long a run of batch work may hold up an interactive item that comes meanwhile.
RUN_SECONDS = 0.02


class BatchShare:
    """A count of the computing time of both priorities that says when batch work may go before interactive work.

    It may wherever it has had no more than `share` of the time. With 0 it never may: it gets what interactive work
    leaves and nothing while there is always some. With 1 it always may: interactive work gets what batch work leaves.

    Time that batch work had because no interactive work waited is not held against it for long: it never owes more than
    a run on each of `threads` threads.
    """

    def __init__(self, share: float, threads: int, queue: Queue) -> None:
        self.share = share
        self.threads = threads
        self.queue = queue
        self.lock = threading.Lock()
        self.due_seconds = 0.0  # what batch work is short of its share; negative where it had more

    @property
    def is_due(self) -> bool:
        """Whether batch work may go before interactive work."""
        return self.share > 0 and self.due_seconds >= 0

    def record(self, priority: Priority, seconds: float) -> None:
        """Count the computing time of a run; that of interactive work only where batch work waits."""
        if priority is Priority.INTERACTIVE:
            if self.queue.batch_size:
                with self.lock:
                    self.due_seconds += self.share * seconds
            return
        lowest = (self.share - 1) * max(RUN_SECONDS, self.threads * seconds)
        with self.lock:
            self.due_seconds = max(self.due_seconds - (1 - self.share) * seconds, lowest)

    def seconds_beside(self, seconds: float, batch_seconds: float) -> float:
        """Return the seconds of `batch_seconds` of waiting batch work that are computed before `seconds` of others."""
        if self.share == 1:
            return batch_seconds
        return min(batch_seconds, seconds * self.share / (1 - self.share))
