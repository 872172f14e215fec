"""The job store: which jobs there are, as clients see them."""

from __future__ import annotations

from typing import NamedTuple

from serving.inference.registry import ModelId
from serving.jobs.database import Database, Transaction
from serving.jobs.errors import JobStateError, KeyReusedError, StoreFullError, TooManyJobsError
from serving.jobs.job import PLAN, Job, State
from serving.jobs.statements import add_chunks, finish, forget, job_of


class Limits(NamedTuple):
    """Most unfinished jobs of one owner, and most bytes of the files of all jobs together."""

    unfinished: int
    max_bytes: int


class Submission(NamedTuple):
    """What a client submits: `digest` is that of the file, `bytes` its size, `trace` the client's `traceparent`."""

    id: str
    owner: str
    model: ModelId
    digest: str
    bytes: int
    idempotency_key: str | None
    trace: str | None


class JobStore:
    """The jobs in a database."""

    def __init__(self, database: Database, limits: Limits) -> None:
        self.database = database
        self.limits = limits

    async def admit(self, submission: Submission) -> Job | None:
        """Return the job that has a submission's idempotency key, if any; raise what `submit` raises.

        It comes before the file is stored, which would be in vain where the job is refused.
        """
        return await self.database.run(lambda transaction: self.earlier(transaction, submission))

    async def submit(self, submission: Submission) -> Job:
        """Add a job, whose input is stored already; return it, or the one that has its idempotency key.

        Raises KeyReusedError, TooManyJobsError or StoreFullError.
        """

        def work(transaction: Transaction) -> Job:
            transaction.run("{one_at_a_time}")
            earlier = self.earlier(transaction, submission)
            if earlier is not None:
                return earlier
            transaction.run(
                "INSERT INTO jobs (id, owner, model, idempotency_key, digest, state, bytes, done_rows, done_chunks,"
                " created_at, turn, trace)"
                " VALUES (:id, :owner, :model, :key, :digest, 'pending', :bytes, 0, 0, {now}, 0, :trace)",
                id=submission.id,
                owner=submission.owner,
                model=str(submission.model),
                key=submission.idempotency_key,
                digest=submission.digest,
                bytes=submission.bytes,
                trace=submission.trace,
            )
            add_chunks(transaction, submission.id, [(PLAN, 0, 0)])
            return job_of(transaction, submission.id, submission.owner)

        return await self.database.run(work)

    def earlier(self, transaction: Transaction, submission: Submission) -> Job | None:
        """Return the job that has a submission's idempotency key, if any; raise where there is no room for another."""
        found = find_again(transaction, submission)
        if found is None:
            self.check_room(transaction, submission)
        return found

    def check_room(self, transaction: Transaction, submission: Submission) -> None:
        """Raise where the owner has too many unfinished jobs, or all jobs together too many bytes."""
        counted = transaction.rows(
            "SELECT count(*) AS jobs FROM jobs WHERE owner = :owner AND state IN {active}",
            owner=submission.owner,
        )
        if counted[0]["jobs"] >= self.limits.unfinished:
            raise TooManyJobsError(f"there are {self.limits.unfinished} unfinished jobs already")
        taken = transaction.rows("SELECT COALESCE(sum(bytes), 0) AS bytes FROM jobs")[0]["bytes"]
        if taken + submission.bytes > self.limits.max_bytes:
            raise StoreFullError("the files of jobs take all the room that they may")

    async def job(self, job: str, owner: str) -> Job:
        """Return an owner's job; raise UnknownJobError where there is none."""
        return await self.database.run(lambda transaction: job_of(transaction, job, owner))

    async def jobs(self, model: str, owner: str, limit: int) -> list[Job]:
        """Return an owner's jobs of all versions of a model, the newest first."""

        def work(transaction: Transaction) -> list[Job]:
            # Every version begins with the name and a colon; ';' comes after it.
            found = transaction.rows(
                "SELECT * FROM jobs WHERE owner = :owner AND model >= :first AND model < :last"
                " ORDER BY created_at DESC LIMIT :most",
                owner=owner,
                first=f"{model}:",
                last=f"{model};",
                most=limit,
            )
            return [Job.of(row) for row in found]

        return await self.database.run(work)

    async def results(self, job: str) -> list[str]:
        """Return the names of the results of a job's chunks, in their order."""

        def work(transaction: Transaction) -> list[str]:
            found = transaction.rows(
                "SELECT result FROM chunks WHERE job = :job AND number >= 0 AND result IS NOT NULL ORDER BY number",
                job=job,
            )
            return [row["result"] for row in found]

        return await self.database.run(work)

    async def cancel(self, job: str, owner: str) -> tuple[Job, bool]:
        """Cancel an unfinished job; return it, and whether it had not been cancelled before.

        Raises JobStateError for one that completed or failed.
        """

        def work(transaction: Transaction) -> tuple[Job, bool]:
            changed = finish(transaction, job_of(transaction, job, owner).id, State.CANCELED)
            found = job_of(transaction, job, owner)
            if found.state is not State.CANCELED:
                raise JobStateError(f"task {job} is {found.state.value} already")
            return found, changed

        return await self.database.run(work)

    async def delete(self, job: str, owner: str) -> None:
        """Forget a job, whatever its state; its files are still there."""

        def work(transaction: Transaction) -> None:
            job_of(transaction, job, owner)
            forget(transaction, job)

        await self.database.run(work)


def find_again(transaction: Transaction, submission: Submission) -> Job | None:
    """Return the job of a submission, or that of its idempotency key; KeyReusedError where it is for something else."""
    found = transaction.rows(
        "SELECT * FROM jobs WHERE id = :id OR (owner = :owner AND idempotency_key = :key)",
        id=submission.id,
        owner=submission.owner,
        key=submission.idempotency_key,
    )
    if not found:
        return None
    job = Job.of(found[0])
    if job.digest != submission.digest or job.model_id.name != submission.model.name:
        raise KeyReusedError("the Idempotency-Key came with another file before")
    return job
