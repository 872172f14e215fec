"""What an explanation may cost: evaluations by the model's pace, within the time that the request has."""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.inference.batcher import Batcher
from serving.inference.context import Priority

# After so many seconds no more is sampled.
SECONDS = 2.0
# Of the time that is left to a request: how much the fewest evaluations may take, and by when the last must be done.
SHARE, LAST = 0.5, 0.9
# By how many it is found out how long they take: batches of rows hold thousands, which is too many, and some models
# take one item at a time, which is too few.
FEWEST, MOST = 8, 256


class Budget:
    """The time that an explanation may take, and how many evaluations fit into it.

    `evaluations` is how many there may be at least, by the pace of the model's last batches; the `first` ones tell how
    long they really take. What is computed by `deadline`, a time of `clock`, is answered before the request's own.
    """

    def __init__(self, batcher: Batcher, deadline: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.started = clock()
        left = max(0.0, deadline - self.started)
        self.seconds = min(SECONDS, SHARE * left)
        self.deadline = self.started + LAST * left
        self.most_seconds = SHARE * left
        self.evaluations = int(self.most_seconds / seconds_each(batcher))
        self.first = max(FEWEST, min(batcher.max_batch, MOST))

    def allows(self, times: float, *, exact: bool = False) -> bool:
        """Return whether so many times the work so far takes no more than the time for sampling, or for exactness."""
        return (self.clock() - self.started) * times <= (self.most_seconds if exact else self.seconds)

    def limit(self, seconds: float) -> None:
        """Note the seconds that an evaluation of the explained item itself took, the longest of its kind."""
        self.evaluations = min(self.evaluations, int(self.most_seconds / max(seconds, 1e-6)))


def seconds_each(batcher: Batcher) -> float:
    """Estimate the seconds that an item takes in a full batch of batch work, not too low."""
    inference = batcher.pace.most_seconds(batcher.max_batch) / batcher.max_batch
    return max(1e-6, inference + batcher.pace.preparing[Priority.BATCH])
