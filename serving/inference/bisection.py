"""Bisection of a batch that fails: its halves are computed, so that a bad item fails alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from models.model import Array
from serving.inference.errors import ModelFaultError
from serving.inference.job import Job

# Limit of the runs on halves, quarters, ... of a batch: enough for each item of a small batch, or for a few bad ones
# among thousands. When there are more, the parts that still hold bad items fail as a whole.
MAX_RETRIES = 128


def run_by_halves(
    batch: list[Job], error: Exception, run: Callable[[list[Job]], Sequence[Array]]
) -> Iterator[tuple[list[Job], Sequence[Array] | Exception]]:
    """Yield the parts of a batch that failed with `error`, each with its outputs or with its own error.

    One level of halves costs no more than the batch itself, and all levels at most the work of eight batches.
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
