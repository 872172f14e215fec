"""Batch work beside interactive work, on a simulated clock, so that the computing time of each is exact."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models.model import InvalidInputError
from serving.inference.batcher import ROUND_BATCHES, Batcher
from serving.inference.context import Priority
from serving.inference.errors import OverloadedError
from serving.inference.share import BatchShare
from tests.support.batchers import (
    ITEM_SECONDS,
    LATE,
    LIMIT_SECONDS,
    TABLE,
    RowSum,
    Sessions,
    Sum,
    a_block,
    busy,
    has_nothing_to_do,
    outputs,
    rows,
    submit,
    submit_batch_work,
    until,
    warm_up,
)
from tests.support.clocks import Clock
from tests.support.metrics import sample

INTERACTIVE, BATCH = [1], [2]
MODEL = {"model": "sum", "version": "1"}


def seconds_of(sessions: Sessions, item: list[int]) -> float:
    """Return the seconds that the items equal to this one took."""
    return sessions.items.count(item) * ITEM_SECONDS


def kinds(sessions: Sessions) -> str:
    """Return the runs as a string: i for interactive work, b for batch work."""
    return "".join("b" if BATCH in run.items else "i" for run in sessions.runs)


def test_interactive_work_goes_first(make_batcher: Callable[..., Batcher], sessions: Sessions, model: Sum) -> None:
    batcher = make_batcher(batch_share=0)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        before = await busy(batcher, model)
        later = submit_batch_work(batcher, [BATCH] * 4)
        first = submit(batcher, [INTERACTIVE] * 100)
        model.gate.set()
        await before
        await outputs([*first, *later])

    asyncio.run(use())
    assert kinds(sessions) == "i" * (1 + 34) + "bb"


@pytest.mark.parametrize("share", [1 / 4, 1 / 16])
def test_batch_work_gets_its_share_while_interactive_work_always_waits(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: Sum, share: float
) -> None:
    batcher = make_batcher(batch_share=share, queue_seconds=1_000.0)
    a_round = ROUND_BATCHES * model.max_batch

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        await busy(batcher, model)
        jobs = submit(batcher, [INTERACTIVE] * 20 * a_round)
        jobs += submit_batch_work(batcher, [BATCH] * 20 * a_round)
        model.gate.set()
        await outputs(jobs)

    asyncio.run(use())
    contended = sessions.runs[1 : len(sessions.runs) - kinds(sessions)[::-1].index("i")]
    of_batch = sum(run.items.count(BATCH) for run in contended)
    of_interactive = sum(run.items.count(INTERACTIVE) for run in contended)
    # Batch work has not yet had its share of the last round of interactive work.
    entitled = share * (of_batch + of_interactive)
    assert of_interactive == 20 * a_round
    assert entitled - share * a_round <= of_batch <= entitled + 2
    # Batch work was never further behind than that.
    had = total = 0
    for run in contended:
        had += run.items.count(BATCH)
        total += len(run.items)
        assert had >= share * (total - a_round)


def test_batch_work_has_its_share_after_time_that_nobody_else_wanted(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: Sum
) -> None:
    batcher = make_batcher(batch_share=1 / 4, queue_seconds=1_000.0)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        await outputs(submit_batch_work(batcher, [BATCH] * 1_000))
        sessions.runs.clear()
        await busy(batcher, model)
        jobs = submit(batcher, [INTERACTIVE] * 2 * ROUND_BATCHES * model.max_batch)
        jobs += submit_batch_work(batcher, [BATCH] * 2)
        model.gate.set()
        await outputs(jobs)

    asyncio.run(use())
    assert kinds(sessions) == "i" + "i" * ROUND_BATCHES + "b" + "i" * ROUND_BATCHES


def test_with_a_share_of_one_batch_work_goes_first(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: Sum
) -> None:
    batcher = make_batcher(batch_share=1)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        await busy(batcher, model)
        jobs = submit(batcher, [INTERACTIVE] * 6) + submit_batch_work(batcher, [BATCH] * 6)
        model.gate.set()
        await outputs(jobs)

    asyncio.run(use())
    assert kinds(sessions) == "ibbbii"


@pytest.mark.parametrize(
    ("item_seconds", "sizes"),
    [(1 / 1024, [16, 4]), (1 / 128, [2] * 10), (1 / 64, [1] * 20), (1.0, [1] * 20)],
)
def test_batch_work_runs_for_20_ms_at_a_time(
    make_batcher: Callable[..., Batcher], sessions: Sessions, item_seconds: float, sizes: list[int]
) -> None:
    batcher = make_batcher(max_batch=16)
    sessions.seconds = lambda items: items * item_seconds

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        await outputs(submit_batch_work(batcher, [BATCH] * 20))

    asyncio.run(use())
    assert sessions.sizes == sizes


def test_batch_work_runs_longer_batches_again_when_the_model_has_become_faster(
    make_batcher: Callable[..., Batcher], sessions: Sessions
) -> None:
    batcher = make_batcher(max_batch=16)

    async def use() -> None:
        sessions.seconds = lambda items: 1.0
        await warm_up(batcher, sessions, 1, 2, 4, 8, 16)
        sessions.seconds = lambda items: items / 1024
        await outputs(submit_batch_work(batcher, [BATCH] * 1_000))

    asyncio.run(use())
    assert sessions.sizes[0] == 1
    assert max(sessions.sizes) >= 10  # about half of 20 ms


def test_an_interactive_item_is_in_the_next_run(
    make_batcher: Callable[..., Batcher], sessions: Sessions, clock: Clock
) -> None:
    batcher = make_batcher()
    started, comes = threading.Event(), threading.Event()

    def hold(run: object) -> None:
        if len(sessions.runs) == 3:
            started.set()
            comes.wait(LIMIT_SECONDS)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        sessions.during = hold
        later = submit_batch_work(batcher, [BATCH] * 20)
        await until(started.is_set)
        arrived = clock()
        first = submit(batcher, [INTERACTIVE])
        comes.set()
        await outputs([*first, *later])
        (run,) = (run for run in sessions.runs if run.items == [INTERACTIVE])
        assert run.started - arrived <= 0.02

    asyncio.run(use())
    assert kinds(sessions) == "bbbi" + "b" * 7


def test_batch_work_beside_interactive_work_leaves_a_thread_free(
    make_batcher: Callable[..., Batcher], sessions: Sessions
) -> None:
    batcher = make_batcher(threads=3)
    release = threading.Event()

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        await outputs(submit_batch_work(batcher, [BATCH]))  # takes more than its share
        await until(lambda: not batcher.busy)  # which is counted once its thread is free
        sessions.runs.clear()
        sessions.during = lambda run: run.items != [INTERACTIVE] and release.wait(LIMIT_SECONDS)
        long, short = submit(batcher, [[9], INTERACTIVE])
        await short.future
        later = submit_batch_work(batcher, [BATCH] * 6)
        await until(lambda: BATCH in sessions.items)
        await outputs(submit(batcher, [INTERACTIVE]))
        assert sorted(sessions.items) == [INTERACTIVE, INTERACTIVE, BATCH, [9]]
        assert {run.threads for run in sessions.runs} == {1}
        release.set()
        await outputs([long, *later])

    asyncio.run(use())


def test_work_goes_on_when_the_share_is_used_up_as_batch_work_is_taken(
    make_batcher: Callable[..., Batcher], sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(threads=2)
    release = threading.Event()
    sessions.during = lambda run: [9] in run.items and release.wait(LIMIT_SECONDS)
    was_due: list[bool] = []

    def is_due(share: BatchShare) -> bool:
        was_due.append(share.due_seconds >= 0)
        share.record(Priority.BATCH, 0.02)  # as another thread may at this moment
        return was_due[-1]

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        long, short = submit(batcher, [[9], INTERACTIVE])
        await short.future
        monkeypatch.setattr(BatchShare, "is_due", property(is_due))
        later = submit_batch_work(batcher, [BATCH] * 2)
        await until(lambda: len(was_due) > 1)
        assert was_due[0]
        release.set()
        async with asyncio.timeout(LIMIT_SECONDS):
            await outputs([long, *later, *submit(batcher, [INTERACTIVE])])

    asyncio.run(use())


class TestRefusal:
    """Work that is refused, and work that is dropped."""

    @pytest.fixture
    def batcher(self, make_batcher: Callable[..., Batcher]) -> Batcher:
        return make_batcher(queue_seconds=2.0, queue_items=20, batch_share=1 / 4)

    @pytest.fixture(autouse=True)
    def slow(self, sessions: Sessions) -> None:
        sessions.seconds = float

    def test_waiting_batch_work_delays_interactive_work_by_its_share_only(
        self, batcher: Batcher, sessions: Sessions, model: Sum
    ) -> None:
        async def use() -> None:
            await warm_up(batcher, sessions, 1, 3)
            await busy(batcher, model)
            submit_batch_work(batcher, [BATCH] * 10)
            assert batcher.expected_wait() == 1.0 * 4 / 3
            assert batcher.expected_wait(Priority.BATCH) == 3 * 3.0 + 3.0  # eleven items in batches of three

        asyncio.run(use())

    @pytest.mark.parametrize(("share", "seconds"), [(0, 1.0), (1, 13.0)])
    def test_no_share_delays_nothing_and_a_whole_one_by_all_of_it(
        self,
        make_batcher: Callable[..., Batcher],
        sessions: Sessions,
        model: Sum,
        share: float,
        seconds: float,
    ) -> None:
        batcher = make_batcher(batch_share=share)

        async def use() -> None:
            await warm_up(batcher, sessions, 1, 3)
            await busy(batcher, model)
            submit_batch_work(batcher, [BATCH] * 12)
            assert batcher.expected_wait() == seconds

        asyncio.run(use())

    def test_batch_work_may_wait_long_but_not_past_its_deadline(
        self, batcher: Batcher, sessions: Sessions, model: Sum, clock: Clock
    ) -> None:
        async def use() -> None:
            await warm_up(batcher, sessions, 1, 3)
            await busy(batcher, model)
            submit_batch_work(batcher, [BATCH] * 11)
            submit_batch_work(batcher, [BATCH] * 2, clock() + 12)
            with pytest.raises(OverloadedError) as refusal:
                submit_batch_work(batcher, [BATCH], clock() + 12)
            assert refusal.value.retry_after_seconds == 15.0 - 2.0

        asyncio.run(use())

    def test_batch_work_is_refused_when_too_much_of_it_waits_and_interactive_work_is_not(
        self, batcher: Batcher, sessions: Sessions, model: Sum
    ) -> None:
        async def use() -> None:
            await warm_up(batcher, sessions, 1)
            await busy(batcher, model)
            submit_batch_work(batcher, [BATCH] * 20)
            with pytest.raises(OverloadedError):
                submit_batch_work(batcher, [BATCH])
            submit(batcher, [INTERACTIVE])
            assert sample("tiffin_batch_work_items", **MODEL) == 20
            assert sample("tiffin_queue_items", **MODEL) == 1

        asyncio.run(use())

    @pytest.mark.parametrize("reason", ["abandoned", "expired"])
    def test_batch_work_that_nobody_can_have_is_dropped(
        self, batcher: Batcher, sessions: Sessions, model: Sum, clock: Clock, reason: str
    ) -> None:
        before = sample("tiffin_dropped_items_total", **MODEL, reason=reason)

        async def use() -> None:
            await warm_up(batcher, sessions, 1)
            await busy(batcher, model)
            dropped = submit_batch_work(batcher, [[3]] * 8, clock() + 100)
            wanted = submit_batch_work(batcher, [BATCH])
            if reason == "expired":
                clock.advance(100)
            else:
                for job in dropped:
                    job.future.cancel()
            model.gate.set()
            await outputs(wanted)
            await until(lambda: all(job.future.done() for job in dropped))

        asyncio.run(use())
        assert sessions.items == [[9], BATCH]
        assert has_nothing_to_do(batcher)
        assert sample("tiffin_dropped_items_total", **MODEL, reason=reason) == before + 8


class TestBlocks:
    """Blocks of rows as batch work, which are cut when they would take too long."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Sum:
        return RowSum(tmp_path)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_a_block_is_cut_and_its_outputs_stand_in_order(
        self, make_batcher: Callable[..., Batcher], sessions: Sessions, threads: int
    ) -> None:
        batcher = make_batcher(threads, max_batch=8)

        async def use() -> list[object]:
            await warm_up(batcher, sessions, 1, item=rows(2)[0])
            jobs = [
                a_block(1, 2, 3, 4, 5, 6, 7, 8, priority=Priority.BATCH),
                a_block(9, 1, 2, priority=Priority.BATCH),
            ]
            batcher.enqueue(jobs, LATE)
            return await outputs(jobs)

        assert asyncio.run(use()) == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 1, 2]]
        assert sum(sessions.sizes) == 11
        if threads == 1:
            assert sessions.sizes == [2] * 5 + [1]
        assert has_nothing_to_do(batcher)

    @pytest.mark.parametrize("bad", [-2, 2 * TABLE])
    def test_a_block_with_a_bad_row_fails_as_a_whole(
        self, batcher: Batcher, sessions: Sessions, model: Sum, bad: int
    ) -> None:
        async def use() -> object:
            await warm_up(batcher, sessions, 1, item=rows(2)[0])
            blocks = [a_block(1, 2, bad, priority=Priority.BATCH), a_block(4, 5, 6, priority=Priority.BATCH)]
            batcher.enqueue(blocks, LATE)
            assert await outputs(blocks[1:]) == [[4, 5, 6]]
            return blocks[0].future.exception() or blocks[0].future.result()

        assert isinstance(asyncio.run(use()), InvalidInputError if bad < 0 else Exception)
        assert has_nothing_to_do(batcher)
