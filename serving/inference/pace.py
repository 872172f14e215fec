"""An estimate of how long batches take, from those before them."""

from __future__ import annotations

import math

from serving.inference.context import Priority

# Weight of the newest batch in the moving average.
NEWEST = 0.1
# Batches that take longer run side by side, a thread each: a fifth more of them than one by one on all threads, which
# wait for each other after every operation. Handing out shorter ones costs more than it saves.
PARALLEL_SECONDS = 0.001


class Pace:
    """Seconds of inference of batches of up to `max_batch` items; of preprocessing, per item."""

    def __init__(self, max_batch: int) -> None:
        # Moving averages, by the bit length of a batch's size; 0 where there has been no such batch.
        self.batch_seconds = [0.0] * (max_batch.bit_length() + 1)
        # Seconds of preprocessing per item. That of batch work counts apart: it may be far larger pictures.
        self.preparing = dict.fromkeys(Priority, 0.0)

    def record(self, items: int, seconds: float) -> None:
        """Record the seconds that inference of a batch of `items` took."""
        bits = items.bit_length()
        self.batch_seconds[bits] = moved(self.batch_seconds[bits], seconds)

    def record_preparing(self, priority: Priority, items: int, seconds: float) -> None:
        """Record the seconds that preprocessing of `items` of a priority took; an interactive block counts as one."""
        self.preparing[priority] = moved(self.preparing[priority], seconds / items)

    def seconds(self, items: int) -> float:
        """Estimate the seconds of a batch by earlier ones of about its size, else by smaller, else by larger ones."""
        size = items.bit_length()
        if not items or self.batch_seconds[size]:
            return self.batch_seconds[size]
        known = [*reversed(self.batch_seconds[1 : size + 1]), *self.batch_seconds[size + 1 :]]
        return next((seconds for seconds in known if seconds), 0.0)

    def is_long(self, items: int) -> bool:
        """Return whether batches of this size are to run side by side."""
        return self.seconds(items) >= PARALLEL_SECONDS

    def most_seconds(self, items: int) -> float:
        """Estimate the seconds of a batch, not too low; infinite where nothing is known.

        Where only smaller batches are known, it takes as many times as long as they as it is larger.
        """
        size = items.bit_length()
        if self.batch_seconds[size]:
            return self.batch_seconds[size]
        found = next((seconds for seconds in self.batch_seconds[size:] if seconds), 0.0)
        if not found:
            found = max(seconds * 2 ** (size - bits) for bits, seconds in enumerate(self.batch_seconds[:size]))
        return found or math.inf

    def items(self, seconds: float, preparing: float = 0.0) -> int:
        """Return how many items may go into a batch that is to take `seconds` at most; one at least.

        Each takes `preparing` seconds of preprocessing as well. The number is in proportion to the largest batches that
        took no longer, so that sizes that were slow once are tried again when smaller ones have become faster.
        """
        most = 1
        for bits, known in enumerate(self.batch_seconds):
            if 0 < known <= seconds:
                most = max(1, int(seconds / (known / 2 ** (bits - 1) + preparing)))
        return most


def moved(average: float, newest: float) -> float:
    """Return a moving average after the newest value."""
    return average + (newest - average) * (NEWEST if average else 1.0)
