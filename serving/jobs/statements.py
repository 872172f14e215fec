"""Statements on jobs and chunks, as parts of transactions.

Transactions change chunks before jobs, so that no two wait for each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serving.jobs.database import Transaction
from serving.jobs.errors import UnknownJobError
from serving.jobs.job import Job, State

# So that a database some way off is asked a few times for a file of a million rows, while others wait.
CHUNKS_AT_A_TIME = 500


def job_of(transaction: Transaction, job: str, owner: str) -> Job:
    """Return an owner's job; raise UnknownJobError where there is none."""
    found = transaction.rows("SELECT * FROM jobs WHERE id = :job AND owner = :owner", job=job, owner=owner)
    if not found:
        raise UnknownJobError("no such task")
    return Job.of(found[0])


def add_chunks(transaction: Transaction, job: str, chunks: Sequence[tuple[int, int, int]]) -> None:
    """Add chunks that nobody has claimed, each by its number, its first row and its number of rows."""
    for start in range(0, len(chunks), CHUNKS_AT_A_TIME):
        some = chunks[start : start + CHUNKS_AT_A_TIME]
        values = ", ".join(f"(:job, {number:d}, {first_row:d}, {rows:d}, 0, 0, 0)" for number, first_row, rows in some)
        transaction.run(
            f"INSERT INTO chunks (job, number, first_row, rows, attempts, crashes, due_at) VALUES {values}",  # noqa: S608
            job=job,
        )


def finish(transaction: Transaction, job: str, state: State, error: dict[str, Any] | None = None) -> bool:
    """End a job that is not finished; return whether that changed its state.

    Chunks without a result are removed, since workers that look for some would pass over them each time.
    """
    transaction.run(
        "DELETE FROM chunks WHERE job = :job AND result IS NULL"
        " AND EXISTS (SELECT 1 FROM jobs WHERE id = :job AND state IN {active})",
        job=job,
    )
    changed = transaction.run(
        "UPDATE jobs SET state = :state, error = :error, finished_at = {now} WHERE id = :job AND state IN {active}",
        state=state.value,
        error=None if error is None else json.dumps(error),
        job=job,
    )
    return changed == 1


def forget(transaction: Transaction, job: str) -> None:
    """Remove a job and its chunks."""
    transaction.run("DELETE FROM chunks WHERE job = :job", job=job)
    transaction.run("DELETE FROM jobs WHERE id = :job", job=job)
