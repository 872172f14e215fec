"""What is to be done with a batch that fails: compute its halves, so that a bad item fails alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from models.model import Array
from serving.inference.padding import ModelFaultError
from serving.inference.queue import Job

# Most runs on halves, quarters, ... of a batch: enough for each item of a small batch, and for a few bad ones among
# thousands. What is still under suspicion then fails without a run of its own.
MAX_RETRIES = 128


def run_by_halves(
    batch: list[Job], run: Callable[[list[Job]], Sequence[Array]]
) -> Iterator[tuple[list[Job], Sequence[Array] | Exception]]:
    """Yield parts of a batch with their outputs, or with the error by which they fail.

    A level of halves costs no more than the batch itself: at most 1 + MAX_RETRIES runs, and the work of eight batches.
    """
    error: Exception | None = None
    suspects = deque([batch])
    runs = 0
    while suspects:
        part = suspects.popleft()
        if error is not None and runs > MAX_RETRIES:
            yield part, error
            continue
        runs += 1
        try:
            outputs = run(part)
        except Exception as fault:
            error = fault
            # A graph that gives too few or too many outputs does so for any items.
            if len(part) == 1 or isinstance(fault, ModelFaultError):
                yield part, fault
            else:
                middle = len(part) // 2
                suspects += part[:middle], part[middle:]
        else:
            yield part, outputs
