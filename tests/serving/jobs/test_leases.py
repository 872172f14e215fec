"""Chunks go to one worker after the other, and count once, whoever dies when."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.inference.registry import ModelId
from serving.jobs.background import SCHEMA
from serving.jobs.database import Database, Transaction
from serving.jobs.errors import JobStateError, KeyReusedError, StoreFullError, TooManyJobsError, UnknownJobError
from serving.jobs.job import PLAN, Claim, Job, State
from serving.jobs.leases import MAX_ATTEMPTS, MAX_CRASHES, Leases
from serving.jobs.store import JobStore, Limits, Submission
from serving.jobs.upkeep import backlogs
from tests.support.job_stores import Stores

pytestmark = pytest.mark.anyio
MODEL = ModelId("segmentation", "v1")
OTHER = ModelId("segmentation", "v2")
FAULT = {"error": "wrong", "detail": []}
# Shorter than any step takes, so that it has run out by then; and longer than a test.
NO_TIME, LONG = 1e-9, 600.0


class Board:
    """The jobs of a database, which others may use as well: each has an owner and a model of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.owner = secrets.token_hex(4)
        self.model = ModelId("segmentation", secrets.token_hex(4))
        self.store = JobStore(database, Limits(3, 10_000))
        self.leases = Leases(database, LONG)
        self.short = Leases(database, NO_TIME)

    async def submit(self, key: str | None = None, digest: str = "d", size: int = 10) -> Job:
        job = secrets.token_hex(16)
        return await self.store.submit(Submission(job, self.owner, self.model, digest, size, key, None))

    async def planned(self, *rows: int) -> Job:
        """Submit a job that has been cut into chunks."""
        job = await self.submit()
        await self.leases.plan(await self.claimed(), rows, 0)
        return job

    async def claimed(self, leases: Leases | None = None) -> Claim:
        claim = await (leases or self.leases).claim([self.model])
        assert claim is not None
        return claim

    async def state(self, job: Job) -> State:
        return (await self.store.job(job.id, self.owner)).state


@pytest.fixture
def board(stores: Stores, tmp_path: Path) -> Iterator[Board]:
    url = stores.env["TIFFIN_JOB_STORE"]
    database = Database(url if "://" in url else str(tmp_path / "jobs.sqlite"), SCHEMA.read_text(encoding="utf-8"))
    yield Board(database)
    # All jobs share the room of a store.
    database.thread.submit(database.transact, lambda transaction: transaction.run("DELETE FROM jobs")).result()
    database.close()


async def test_a_job_is_read_then_answered_chunk_by_chunk(board: Board) -> None:
    job = await board.submit()
    assert job.state is State.PENDING
    plan = await board.claimed()
    assert (plan.job, plan.number, plan.plan) == (job.id, PLAN, None)
    await board.leases.plan(plan, [5_000, 7], 0)
    first, second = await board.claimed(), await board.claimed()
    assert [(each.number, each.first_row, each.rows, each.plan) for each in (first, second)] == [
        (0, 0, 5_000, plan.inputs),
        (1, 5_000, 7, plan.inputs),
    ]
    assert await board.leases.claim([board.model]) is None
    assert not await board.leases.complete(second, "b")
    found = await board.store.job(job.id, board.owner)
    assert (found.state, found.rows, found.done_rows) == (State.IN_PROGRESS, 5_007, 7)
    assert await board.leases.complete(first, "a")
    assert await board.state(job) is State.COMPLETED
    assert await board.store.results(job.id) == ["a", "b"]


async def test_a_chunk_whose_worker_died_goes_to_another(board: Board) -> None:
    job = await board.planned(10)
    dead = await board.claimed(board.short)
    alive = await board.claimed()
    assert (alive.number, alive.token) != (dead.number, dead.token)
    assert not await board.short.renew(dead)
    assert not await board.leases.complete(dead, "of the dead")
    assert await board.leases.complete(alive, "of the living")
    assert await board.store.results(job.id) == ["of the living"]


async def test_a_lease_that_is_renewed_is_held(board: Board) -> None:
    await board.planned(10)
    claim = await board.claimed(board.short)
    assert await board.leases.renew(claim)
    assert await board.leases.claim([board.model]) is None


async def test_a_result_counts_once_however_often_it_is_noted(board: Board) -> None:
    job = await board.planned(10, 10)
    claim = await board.claimed()
    for _ in range(3):
        await board.leases.complete(claim, "once")
    assert (await board.store.job(job.id, board.owner)).done_rows == 10


async def test_a_file_is_cut_once_however_often_that_is_noted(board: Board) -> None:
    job = await board.submit()
    dead = await board.claimed(board.short)
    plan = await board.claimed()
    assert await board.leases.plan(plan, [1, 1], 0)
    assert not await board.leases.plan(plan, [1, 1], 0)
    assert not await board.leases.plan(dead, [1], 0)
    found = await board.store.job(job.id, board.owner)
    assert (found.plan, found.chunks) == (plan.inputs, 2)


@pytest.mark.folder_only  # it counts the statements of SQLite
async def test_a_file_of_many_chunks_is_noted_in_few_statements(board: Board) -> None:
    job = await board.submit()
    plan = await board.claimed()
    statements: list[str] = []
    await board.database.run(
        lambda transaction: transaction.cursor.connection.set_trace_callback(statements.append),
    )
    await board.leases.plan(plan, [2] * 2_001, 0)
    assert len(statements) < 20
    found = await board.store.job(job.id, board.owner)
    assert (found.rows, found.chunks) == (4_002, 2_001)
    rows = "SELECT first_row FROM chunks WHERE number >= 0 ORDER BY number"
    stored = await board.database.run(lambda transaction: transaction.rows(rows))
    assert [row["first_row"] for row in stored] == list(range(0, 4_002, 2))


async def test_what_a_lease_has_written_for_nothing_is_known(board: Board) -> None:
    job = await board.submit()
    dead = await board.claimed(board.short)
    plan = await board.claimed()
    await board.leases.plan(plan, [1], 0)
    chunk = await board.claimed()
    assert [await board.leases.leftovers(claim) for claim in (dead, plan, chunk)] == [dead.inputs, None, None]
    await board.store.delete(job.id, board.owner)
    assert await board.leases.leftovers(chunk) == job.id


async def test_of_last_chunks_noted_at_once_one_completes_the_job(board: Board) -> None:
    job = await board.planned(*[1] * 8)
    claims = [await board.claimed() for _ in range(8)]
    others = [Database(board.database.url, SCHEMA.read_text(encoding="utf-8")) for _ in claims]
    done = await asyncio.gather(
        *(Leases(other, LONG).complete(claim, "part") for other, claim in zip(others, claims, strict=True))
    )
    for other in others:
        other.close()
    assert sum(done) == 1
    assert await board.state(job) is State.COMPLETED


async def test_workers_that_claim_at_once_get_chunks_of_their_own(board: Board) -> None:
    await board.planned(*[1] * 8)
    others = [Database(board.database.url, SCHEMA.read_text(encoding="utf-8")) for _ in range(8)]
    claims: list[Claim] = []
    while len(claims) < 8:  # a claim may find that another was faster with the only free chunk
        found = await asyncio.gather(*(Leases(other, LONG).claim([board.model]) for other in others))
        claims += [claim for claim in found if claim is not None]
    for other in others:
        other.close()
    assert sorted(claim.number for claim in claims) == list(range(8))


async def test_a_chunk_that_fails_is_tried_again_later_and_the_third_time_fails_the_job(board: Board) -> None:
    job = await board.planned(10)
    for attempt in range(MAX_ATTEMPTS):
        claim = await board.claimed()
        assert claim.attempts == attempt
        last = attempt == MAX_ATTEMPTS - 1
        assert await board.leases.fail(claim, FAULT, final=False) is last
        assert await board.leases.claim([board.model]) is None
        await board.database.run(lambda transaction: transaction.run("UPDATE chunks SET due_at = 0"))
    found = await board.store.job(job.id, board.owner)
    assert (found.state, found.fault()) == (State.FAILED, FAULT)


async def test_a_final_fault_fails_the_job_at_once(board: Board) -> None:
    job = await board.submit()
    assert await board.leases.fail(await board.claimed(), FAULT, final=True)
    assert await board.state(job) is State.FAILED
    assert (await board.store.job(job.id, board.owner)).described()["error"] == "wrong"


async def test_a_chunk_that_kills_its_workers_fails_the_job(board: Board) -> None:
    job = await board.planned(10)
    for _ in range(MAX_CRASHES):
        await board.claimed(board.short)
    assert await board.leases.claim([board.model]) is None
    assert await board.state(job) is State.FAILED


async def test_a_chunk_given_back_is_there_at_once(board: Board) -> None:
    await board.planned(10)
    await board.leases.release(await board.claimed())
    assert (await board.claimed()).attempts == 0


async def test_a_canceled_job_loses_its_leases(board: Board) -> None:
    job = await board.planned(10)
    claim = await board.claimed()
    found, changed = await board.store.cancel(job.id, board.owner)
    assert (found.state, changed) == (State.CANCELED, True)
    assert not await board.leases.renew(claim)
    assert not await board.leases.complete(claim, "late")
    assert await board.leases.claim([board.model]) is None
    assert (await board.store.cancel(job.id, board.owner))[1] is False
    assert await board.state(job) is State.CANCELED


@pytest.mark.folder_only  # it counts the steps of SQLite
async def test_a_search_for_work_passes_over_no_job_that_has_ended(board: Board) -> None:
    count, steps = 1_000, 0

    def fill(transaction: Transaction) -> None:
        for number in range(count):
            transaction.run(
                "INSERT INTO jobs (id, owner, model, digest, state, bytes, done_rows, done_chunks, created_at, turn)"
                " VALUES (:id, :owner, :model, 'd', 'completed', 1, 1, 1, 0, 0)",
                id=str(number),
                owner=board.owner,
                model=str(board.model),
            )

    def step() -> None:
        nonlocal steps
        steps += 1

    await board.database.run(fill)
    canceled = await board.planned(*[1] * count)
    await board.store.cancel(canceled.id, board.owner)
    await board.submit()
    await board.database.run(lambda transaction: transaction.cursor.connection.set_progress_handler(step, 1))
    await board.claimed()
    assert steps < count


async def test_a_completed_job_is_not_canceled(board: Board) -> None:
    job = await board.planned(10)
    await board.leases.complete(await board.claimed(), "part")
    with pytest.raises(JobStateError, match="completed already"):
        await board.store.cancel(job.id, board.owner)


async def test_a_job_is_only_for_workers_with_its_version(board: Board) -> None:
    await board.submit()
    assert await board.leases.claim([]) is None
    assert await board.leases.claim([ModelId("segmentation", "another"), MODEL, OTHER]) is None
    assert (await board.claimed()).model_id == board.model


async def test_jobs_take_turns(board: Board) -> None:
    large = await board.planned(*[1] * 4)
    small = await board.planned(*[1] * 2)
    found = [(await board.claimed()).job for _ in range(4)]
    assert found.count(large.id) == found.count(small.id) == 2


async def test_a_database_that_is_removed_is_made_again(tmp_path: Path) -> None:
    schema = SCHEMA.read_text(encoding="utf-8")
    folder = tmp_path / "store"
    database, other = (Database(str(folder / "jobs.sqlite"), schema) for _ in range(2))
    board = Board(database)
    await board.submit()
    shutil.rmtree(folder)
    job = await board.submit()
    assert (await JobStore(other, Limits(1, 1)).job(job.id, board.owner)).id == job.id
    database.close()
    other.close()


async def test_an_idempotency_key_stands_for_one_job(board: Board) -> None:
    first = await board.submit(key="k")
    assert (await board.submit(key="k")).id == first.id
    assert (await board.submit(key="l")).id != first.id
    with pytest.raises(KeyReusedError):
        await board.submit(key="k", digest="another file")


async def test_an_owner_has_so_many_unfinished_jobs_and_no_more(board: Board) -> None:
    jobs = [await board.submit() for _ in range(3)]
    with pytest.raises(TooManyJobsError):
        await board.submit()
    await board.store.cancel(jobs[0].id, board.owner)
    await board.submit()


async def test_a_full_store_refuses_jobs_and_loses_none(board: Board) -> None:
    job = await board.submit()
    with pytest.raises(StoreFullError):
        await board.submit(size=10_000)
    assert await board.state(job) is State.PENDING


async def test_the_inputs_of_chunks_count_as_the_jobs(board: Board) -> None:
    await board.submit(size=10)
    await board.leases.plan(await board.claimed(), [1], 9_980)
    await board.submit(size=10)
    with pytest.raises(StoreFullError):
        await board.submit(size=1)


async def test_a_job_belongs_to_its_owner(board: Board) -> None:
    job = await board.submit()
    for attempt in (board.store.job, board.store.cancel, board.store.delete):
        with pytest.raises(UnknownJobError):
            await attempt(job.id, "somebody else")
    assert await board.store.jobs("segmentation", "somebody else", 10) == []
    assert [each.id for each in await board.store.jobs("segmentation", board.owner, 10)] == [job.id]
    assert await board.store.jobs("segment", board.owner, 10) == []


async def test_a_deleted_job_is_unknown_and_its_worker_stops(board: Board) -> None:
    job = await board.planned(10)
    claim = await board.claimed()
    await board.store.delete(job.id, board.owner)
    assert not await board.leases.renew(claim)
    assert not await board.leases.complete(claim, "late")
    with pytest.raises(UnknownJobError):
        await board.store.job(job.id, board.owner)


async def test_the_backlog_counts_what_is_not_finished(board: Board) -> None:
    await board.planned(10)
    await board.submit()
    found = {each.model: each for each in await board.database.run(backlogs)}[board.model]
    assert (found.queued, found.running) == (1, 1)
    assert 0 <= found.oldest_seconds < 600
