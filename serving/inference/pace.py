"""An estimate of how long batches take, from those before them."""

from __future__ import annotations

# Weight of the newest batch in the moving average.
NEWEST = 0.1


class Pace:
    """Seconds that batches of up to `max_batch` items add to the wait, by the bit length of their size."""

    def __init__(self, max_batch: int) -> None:
        # Moving averages; 0 where there has been no such batch.
        self.batch_seconds = [0.0] * (max_batch.bit_length() + 1)
        self.preparing = 0.0  # seconds of preprocessing per item in the last round

    def record(self, items: int, seconds: float) -> None:
        """Record the seconds that a batch of `items` took."""
        average = self.batch_seconds[items.bit_length()]
        self.batch_seconds[items.bit_length()] = average + (seconds - average) * (NEWEST if average else 1.0)

    def seconds(self, items: int) -> float:
        """Estimate the seconds of a batch by earlier ones of about its size, else by smaller, else by larger ones."""
        if not items:
            return 0.0
        size = items.bit_length()
        known = [*reversed(self.batch_seconds[1 : size + 1]), *self.batch_seconds[size + 1 :]]
        return next((seconds for seconds in known if seconds), 0.0)

    def items(self, seconds: float) -> int:
        """Return how many items may go into a batch that is to take `seconds` at most; one at least.

        That is in proportion to the largest batches that took no longer, so that sizes that were slow once are tried
        again when smaller ones have become faster.
        """
        most = 1
        for bits, known in enumerate(self.batch_seconds):
            if 0 < known <= seconds:
                most = max(1, int(2 ** (bits - 1) * seconds / known))
        return most
