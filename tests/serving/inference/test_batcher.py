"""The batcher, on a graph that looks numbers up in a table and adds them up."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from models.model import InvalidInputError
from serving.inference.batcher import ROUND_BATCHES, Batcher
from serving.inference.errors import OverloadedError
from serving.inference.priority import LOWER_BY
from serving.inference.queue import Job
from tests.support.batchers import (
    BROKEN,
    LIMIT_SECONDS,
    MISFIT,
    Sum,
    WatchedBatcher,
    busy,
    run,
    soon,
    submit,
    until,
)
from tests.support.clocks import wait_until


@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_stand_in_the_items_order(make_batcher: Callable[..., WatchedBatcher], threads: int) -> None:
    items = [[1] * n for n in (5, 1, 4, 2, 3, 7, 6)]
    assert asyncio.run(run(make_batcher(threads), items)) == [5, 1, 4, 2, 3, 7, 6]


def test_a_bad_item_fails_alone(batcher: Batcher) -> None:
    first, bad, last = asyncio.run(run(batcher, [[1, 2], [-1], [4]]))
    assert [first, last] == [3, 4]
    assert isinstance(bad, InvalidInputError)


@pytest.mark.parametrize(("item", "error"), [(BROKEN, "broken"), (MISFIT, "out of data bounds")])
def test_an_item_that_breaks_its_batch_fails_alone(batcher: Batcher, item: list[int], error: str) -> None:
    async def use() -> None:
        first, broken, last = submit(batcher, [[1, 2], item, [4]], soon())
        assert await first.future == 3
        assert await last.future == 4
        with pytest.raises(Exception, match=error):
            await broken.future

    asyncio.run(use())


def test_items_that_come_while_it_is_busy_go_together(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        before = await busy(batcher, model)
        jobs = [job for n in range(1, 6) for job in submit(batcher, [[1] * n], soon())]
        model.gate.set()
        assert await before == 9
        assert [await job.future for job in jobs] == [1, 2, 3, 4, 5]

    asyncio.run(use())
    assert [len(batch) for batch in batcher.computed] == [1, 3, 2]


def test_a_long_item_does_not_wait_for_all_that_come_after_it(batcher: WatchedBatcher, model: Sum) -> None:
    fills_a_round = ROUND_BATCHES * model.max_batch

    async def use() -> None:
        before = await busy(batcher, model)
        jobs = submit(batcher, [[1, 1], *[[n % 5] for n in range(2 * fills_a_round)]], soon())
        model.gate.set()
        await asyncio.gather(before, *(job.future for job in jobs))

    asyncio.run(use())
    assert [1, 1] in [item for batch in batcher.computed for item in batch][: 1 + fills_a_round]


def test_long_batches_run_side_by_side(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(threads=2)
    batcher.pace.batch_seconds = [1.0, 1.0, 1.0]
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sorted(len(batch) for batch in batcher.computed) == [2, 2, 2, 2]
    assert batcher.sessions == {batcher.single}


def test_short_batches_run_one_after_the_other(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(threads=2)
    batcher.pace.batch_seconds = [1e-6, 1e-6, 1e-6]
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [len(batch) for batch in batcher.computed] == [3, 3, 2]
    assert batcher.sessions == {batcher.session}


def test_what_waits_goes_on_while_another_batch_is_computed(
    make_batcher: Callable[..., WatchedBatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(threads=2)
    batcher.pace.batch_seconds = [1.0, 1.0, 1.0]
    release = threading.Event()
    infer = batcher.infer

    def held_up(batch: list[Job], parallel: int = 1) -> None:
        if [9] in [job.item for job in batch]:
            release.wait(LIMIT_SECONDS)
        infer(batch, parallel)

    monkeypatch.setattr(batcher, "infer", held_up)

    async def use() -> None:
        long, short = submit(batcher, [[9], [1]], soon())
        assert await short.future == 1
        assert await run(batcher, [[2], [3]]) == [2, 3]
        assert not long.future.done()
        release.set()
        assert await long.future == 9

    asyncio.run(use())


def test_batches_can_be_limited_otherwise_than_the_model_says(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(max_batch=2)
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 6)])) == [1, 2, 3, 4, 5]
    assert max(len(batch) for batch in batcher.computed) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities of their own")
def test_inference_runs_ten_steps_behind_what_answers_requests(make_batcher: Callable[..., WatchedBatcher]) -> None:
    before = nice_values()
    batcher = make_batcher(threads=3)
    asyncio.run(run(batcher, [[1]] * 8))
    all_at_once = threading.Barrier(3, timeout=LIMIT_SECONDS)
    list(batcher.pool.map(lambda _: all_at_once.wait(), range(3)))
    threads = nice_values().items() - before.items()
    assert len(threads) >= 6  # the batcher's, the pool's and the session's
    assert {nice for _, nice in threads} == {os.getpriority(os.PRIO_PROCESS, 0) + LOWER_BY}


def nice_values() -> dict[str, int]:
    """The nice value of each thread of this process, by its id."""
    return {
        path.parent.name: int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[16])
        for path in Path("/proc/self/task").glob("*/stat")
    }


def test_a_batch_that_is_not_full_awaits_more_items(make_batcher: Callable[..., WatchedBatcher], model: Sum) -> None:
    batcher = make_batcher(linger_seconds=LIMIT_SECONDS)

    async def use() -> None:
        before = await busy(batcher, model)
        batcher.pace.batch_seconds = [0.0, 1.0, 1.0]
        jobs = submit(batcher, [[1], [2]], soon())
        model.gate.set()
        await before
        jobs += submit(batcher, [[3]], soon())
        assert [await job.future for job in jobs] == [1, 2, 3]

    asyncio.run(use())
    assert batcher.computed == [[[9]], [[1], [2], [3]]]


def test_an_abandoned_item_is_not_computed(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        await busy(batcher, model)
        abandoned, wanted = submit(batcher, [[1], [2]], soon())
        abandoned.future.cancel()
        model.gate.set()
        assert await wanted.future == 2

    asyncio.run(use())
    assert model.seen == [[9], [2]]
    assert batcher.unfinished == 0


def test_an_item_that_is_abandoned_in_preprocessing_is_not_inferred(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        abandoned = await busy(batcher, model)
        abandoned.cancel()
        model.gate.set()
        await run(batcher, [[2]])

    asyncio.run(use())
    assert [batch for batch in batcher.computed if batch] == [[[2]]]


def test_a_refused_item_is_let_go_at_once(batcher: WatchedBatcher) -> None:
    class Item(list[int]):
        """A list to which there may be weak references."""

    async def use() -> weakref.ref[Item]:
        item = Item([-1])
        (outcome,) = await run(batcher, [item])
        assert isinstance(outcome, InvalidInputError)
        assert (outcome.__traceback__, outcome.__context__) == (None, None)
        return weakref.ref(item)

    gc.disable()  # what refers to itself would stay
    try:
        kept = asyncio.run(use())
        batcher.model.seen.clear()  # type: ignore[attr-defined]
        batcher.computed.clear()
        wait_until(lambda: kept() is None, LIMIT_SECONDS)
    finally:
        gc.enable()


def test_what_is_abandoned_is_not_prepared_after_a_slow_item(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        model.gate.clear()
        first, second, third = submit(batcher, [[9], [1], [2]], soon())
        await until(lambda: model.seen == [[9]])
        second.future.cancel()
        third.deadline = time.monotonic()
        model.gate.set()
        assert await first.future == 9
        with pytest.raises(TimeoutError):
            await third.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert batcher.unfinished == 0


def test_an_item_past_its_deadline_is_not_computed(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        await busy(batcher, model)
        (expired,) = submit(batcher, [[1]], time.monotonic() + 0.01)
        await until(lambda: time.monotonic() > expired.deadline)
        model.gate.set()
        with pytest.raises(TimeoutError):
            await expired.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert batcher.unfinished == 0


@pytest.mark.parametrize(("queue_seconds", "left_seconds"), [(2.0, 60.0), (60.0, 2.0)])
def test_items_that_would_wait_too_long_are_refused(
    make_batcher: Callable[..., WatchedBatcher], model: Sum, queue_seconds: float, left_seconds: float
) -> None:
    batcher = make_batcher(queue_seconds=queue_seconds)

    async def use() -> None:
        await busy(batcher, model)
        batcher.pace.batch_seconds = [0.0, 1.0, 3.0]
        submit(batcher, [[1], [2]], soon())
        with pytest.raises(OverloadedError):
            submit(batcher, [[3]], time.monotonic() + left_seconds)

    asyncio.run(use())


def test_a_refusal_says_when_to_come_again(make_batcher: Callable[..., WatchedBatcher], model: Sum) -> None:
    batcher = make_batcher(queue_seconds=2.0)

    async def use() -> float:
        await busy(batcher, model)
        batcher.pace.batch_seconds = [0.0, 1.0, 3.0]
        submit(batcher, [[1]] * 6, soon())
        with pytest.raises(OverloadedError) as refusal:
            submit(batcher, [[3]], soon())
        return refusal.value.retry_after_seconds

    assert asyncio.run(use()) == 5.0  # seven seconds of work, of which two may remain


def test_items_are_refused_when_too_many_wait(make_batcher: Callable[..., WatchedBatcher], model: Sum) -> None:
    batcher = make_batcher(queue_items=2)

    async def use() -> None:
        await busy(batcher, model)
        submit(batcher, [[1], [2]], soon())
        with pytest.raises(OverloadedError):
            submit(batcher, [[3]], soon())

    asyncio.run(use())


def test_an_idle_runner_takes_many_items_at_once(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(queue_items=2, queue_seconds=1.0)
    batcher.pace.batch_seconds = [0.0, 1.0, 3.0]
    assert asyncio.run(run(batcher, [[1]] * 10)) == [1] * 10


def test_closing_ends_the_thread(batcher: Batcher) -> None:
    asyncio.run(run(batcher, [[1]]))
    batcher.close()
    assert not batcher.thread.is_alive()
