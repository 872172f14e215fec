"""Chunks of jobs, claimed by workers.

A worker claims a chunk for the length of a lease, which it renews while it computes. Where it dies, the lease runs out
and another worker claims the chunk. What counts is the one result that was noted while its lease was held, so that no
chunk is in the answer twice, however often it was computed.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from itertools import accumulate
from typing import Any

from serving.inference.registry import ModelId
from serving.jobs.database import Database, Transaction
from serving.jobs.job import PLAN, Claim, State
from serving.jobs.statements import add_chunks, finish

# How often a chunk may fail, and its worker die while it computes it, before the job fails.
MAX_ATTEMPTS = 3
MAX_CRASHES = 10
# Wait before a chunk that failed is tried again, times the number of failures.
RETRY_SECONDS = 2.0
# The job that waited longest for a turn comes next, so that a small one does not wait for a large one.
NEXT_CHUNK = (
    "SELECT chunks.*, jobs.model, jobs.plan, jobs.trace FROM chunks JOIN jobs ON jobs.id = chunks.job"
    " WHERE jobs.state IN {active} AND jobs.model IN (MODELS) AND chunks.result IS NULL AND chunks.due_at <= {now}"
    " ORDER BY jobs.turn, jobs.created_at, chunks.number LIMIT 1 {skip_locked}"
)
CRASHED = {"error": f"a chunk's worker ended {MAX_CRASHES} times while it computed it", "detail": []}


class Leases:
    """The chunks that workers compute, each for one lease of `seconds` after the other."""

    def __init__(self, database: Database, seconds: float) -> None:
        self.database = database
        self.seconds = seconds

    async def claim(self, models: Collection[ModelId]) -> Claim | None:
        """Take a chunk of a job of one of these versions of models; None where there is none."""
        wanted = {f"model{place}": str(model) for place, model in enumerate(models)}

        def work(transaction: Transaction) -> Claim | None:
            while wanted:
                found = transaction.rows(
                    NEXT_CHUNK.replace("MODELS", ", ".join(f":{name}" for name in wanted)),
                    **wanted,
                )
                if not found:
                    break
                row = found[0]
                if row["lease"] is not None and row["crashes"] + 1 >= MAX_CRASHES:
                    finish(transaction, row["job"], State.FAILED, CRASHED)
                    continue
                return self.take(transaction, row)
            return None

        return await self.database.run(work)

    def take(self, transaction: Transaction, row: dict[str, Any]) -> Claim | None:
        """Note the lease of a chunk; None where its job was cancelled meanwhile."""
        token = secrets.token_hex(8)
        transaction.run(
            "UPDATE chunks SET lease = :token, due_at = {now} + :seconds,"
            " crashes = crashes + CASE WHEN lease IS NULL THEN 0 ELSE 1 END WHERE job = :job AND number = :number",
            token=token,
            seconds=self.seconds,
            job=row["job"],
            number=row["number"],
        )
        active = transaction.run(
            "UPDATE jobs SET state = 'in_progress', executed_at = COALESCE(executed_at, {now}),"
            " turn = (SELECT max(turn) + 1 FROM jobs)"
            " WHERE id = :job AND state IN {active}",
            job=row["job"],
        )
        return Claim.of(row, token) if active else None

    async def renew(self, claim: Claim) -> bool:
        """Renew a lease; return whether it is still held, and the job goes on."""

        def work(transaction: Transaction) -> bool:
            renewed = transaction.run(
                "UPDATE chunks SET due_at = {now} + :seconds WHERE job = :job AND number = :number AND lease = :token"
                " AND EXISTS (SELECT 1 FROM jobs WHERE id = :job AND state IN {active})",
                seconds=self.seconds,
                **held(claim),
            )
            return renewed == 1

        return await self.database.run(work)

    async def release(self, claim: Claim) -> None:
        """Give a chunk back that was not computed, for another worker."""

        def work(transaction: Transaction) -> None:
            transaction.run(
                "UPDATE chunks SET lease = NULL, due_at = 0"
                " WHERE job = :job AND number = :number AND lease = :token AND result IS NULL",
                **held(claim),
            )

        await self.database.run(work)

    async def leftovers(self, claim: Claim) -> str | None:
        """Return the name below which stand files that a claim has written for nothing, if any.

        Those are all files of a job that was deleted, or the inputs of chunks into which a file was not cut in the end.
        """

        def work(transaction: Transaction) -> str | None:
            found = transaction.rows("SELECT plan FROM jobs WHERE id = :job", job=claim.job)
            if not found:
                return claim.job
            return claim.inputs if claim.number == PLAN and found[0]["plan"] != claim.inputs else None

        return await self.database.run(work)

    async def plan(self, claim: Claim, rows: Sequence[int], size: int) -> bool:
        """Note the chunks of a job by their numbers of rows, whose inputs have `size` bytes.

        Return whether the lease was held, and nothing was noted before.
        """

        def work(transaction: Transaction) -> bool:
            if not self.note_result(transaction, claim, claim.inputs):
                return False
            ends = list(accumulate(rows))
            add_chunks(
                transaction,
                claim.job,
                [(number, end - count, count) for number, (end, count) in enumerate(zip(ends, rows, strict=True))],
            )
            transaction.run(
                "UPDATE jobs SET plan = :folder, rows = :rows, chunks = :chunks, bytes = bytes + :size WHERE id = :job",
                folder=claim.inputs,
                rows=ends[-1],
                chunks=len(rows),
                size=size,
                job=claim.job,
            )
            return True

        return await self.database.run(work)

    async def complete(self, claim: Claim, result: str) -> bool:
        """Note the result of a chunk, unless its lease was lost; return whether that completed the job."""

        def work(transaction: Transaction) -> bool:
            if not self.note_result(transaction, claim, result):
                return False
            # The row of the job is locked from here on, so that of two last chunks one sees the other.
            transaction.run(
                "UPDATE jobs SET done_rows = done_rows + :rows, done_chunks = done_chunks + 1 WHERE id = :job",
                rows=claim.rows,
                job=claim.job,
            )
            completed = transaction.run(
                "UPDATE jobs SET state = 'completed', finished_at = {now}"
                " WHERE id = :job AND done_chunks = chunks AND state IN {active}",
                job=claim.job,
            )
            return completed == 1

        return await self.database.run(work)

    def note_result(self, transaction: Transaction, claim: Claim, result: str) -> bool:
        """Note what a chunk has become; return whether its lease was held, and nothing was noted before."""
        noted = transaction.run(
            "UPDATE chunks SET result = :result"
            " WHERE job = :job AND number = :number AND lease = :token AND result IS NULL",
            result=result,
            **held(claim),
        )
        return noted == 1

    async def fail(self, claim: Claim, error: dict[str, Any], *, final: bool) -> bool:
        """Note that a chunk failed: it is tried again later, or the job fails; return whether it does.

        `final`: another attempt would fail as well. `error`: what clients are told then.
        """

        def work(transaction: Transaction) -> bool:
            counted = transaction.run(
                "UPDATE chunks SET attempts = attempts + 1, lease = NULL, due_at = {now} + :seconds"
                " WHERE job = :job AND number = :number AND lease = :token AND result IS NULL",
                seconds=RETRY_SECONDS * (claim.attempts + 1),
                **held(claim),
            )
            if not counted or not (final or claim.attempts + 1 >= MAX_ATTEMPTS):
                return False
            return finish(transaction, claim.job, State.FAILED, error)

        return await self.database.run(work)


def held(claim: Claim) -> dict[str, Any]:
    """Return the parameters of a statement on a chunk whose lease is held."""
    return {"job": claim.job, "number": claim.number, "token": claim.token}
