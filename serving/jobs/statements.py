"""Statements on jobs and chunks, as parts of transactions.

Transactions change chunks before jobs, so that no two wait for each other.
"""

from __future__ import annotations

import json
from typing import Any

from serving.jobs.database import Transaction
from serving.jobs.errors import UnknownJobError
from serving.jobs.job import Job, State


def job_of(transaction: Transaction, job: str, owner: str) -> Job:
    """Return an owner's job; raise UnknownJobError where there is none."""
    found = transaction.rows("SELECT * FROM jobs WHERE id = :job AND owner = :owner", job=job, owner=owner)
    if not found:
        raise UnknownJobError("no such task")
    return Job.of(found[0])


def add_chunk(transaction: Transaction, job: str, number: int, first_row: int, rows: int) -> None:
    """Add a chunk that nobody has claimed."""
    transaction.run(
        "INSERT INTO chunks (job, number, first_row, rows, attempts, crashes, due_at)"
        " VALUES (:job, :number, :first_row, :rows, 0, 0, 0)",
        job=job,
        number=number,
        first_row=first_row,
        rows=rows,
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
