"""What is to be done with a batch that fails: compute its halves, so that a bad item fails alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from models.model import Array
from serving.inference.errors import ModelFaultError
from serving.inference.queue import Job

# Most runs on halves, quarters, ... of a batch: enough for each item of a small batch, and for a few bad ones among
# thousands. The parts that hold the others then fail as they are.
MAX_RETRIES = 128


def run_by_halves(
    batch: list[Job], error: Exception, run: Callable[[list[Job]], Sequence[Array]]
) -> Iterator[tuple[list[Job], Sequence[Array] | Exception]]:
    """Yield parts of a batch that failed by `error` with their outputs, or with the error by which they fail.

    A level of halves costs no more than the batch itself: all take at most the work of eight batches.
    """
    failing = deque([(batch, error)])
    retries = 0
    while failing:
        part, error = failing.popleft()
        # A graph that gives too few or too many outputs does so for any items.
        if len(part) == 1 or isinstance(error, ModelFaultError) or retries >= MAX_RETRIES:
            yield part, error
            continue
        middle = len(part) // 2
        for half in (part[:middle], part[middle:]):
            retries += 1
            try:
                outputs = run(half)
            except Exception as fault:
                failing.append((half, fault))
            else:
                yield half, outputs
