"""The batcher, on a graph that sums numbers looked up in a table."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from models.model import InvalidInputError
from serving.inference.batcher import ROUND_BATCHES, Batcher
from serving.inference.errors import OverloadedError
from serving.inference.priority import LOWER_BY
from tests.support.batchers import (
    BROKEN,
    LIMIT_SECONDS,
    MISFIT,
    Sessions,
    Sum,
    busy,
    has_nothing_to_do,
    outputs,
    run,
    submit,
    until,
    warm_up,
)
from tests.support.clocks import Clock, wait_until


@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_stand_in_the_items_order(make_batcher: Callable[..., Batcher], threads: int) -> None:
    items = [[1] * n for n in (5, 1, 4, 2, 3, 7, 6)]
    assert asyncio.run(run(make_batcher(threads), items)) == [5, 1, 4, 2, 3, 7, 6]


def test_a_bad_item_fails_alone(batcher: Batcher) -> None:
    first, bad, last = asyncio.run(run(batcher, [[1, 2], [-1], [4]]))
    assert [first, last] == [3, 4]
    assert isinstance(bad, InvalidInputError)


@pytest.mark.parametrize(("item", "error"), [(BROKEN, "broken"), (MISFIT, "out of data bounds")])
def test_an_item_that_breaks_its_batch_fails_alone(batcher: Batcher, item: list[int], error: str) -> None:
    async def use() -> None:
        first, broken, last = submit(batcher, [[1, 2], item, [4]])
        assert await first.future == 3
        assert await last.future == 4
        with pytest.raises(Exception, match=error):
            await broken.future

    asyncio.run(use())


def test_items_that_come_while_it_is_busy_go_together(batcher: Batcher, model: Sum, sessions: Sessions) -> None:
    async def use() -> None:
        before = await busy(batcher, model)
        jobs = [job for n in range(1, 6) for job in submit(batcher, [[1] * n])]
        model.gate.set()
        assert await before == 9
        assert [await job.future for job in jobs] == [1, 2, 3, 4, 5]

    asyncio.run(use())
    assert sessions.sizes == [1, 3, 2]


def test_a_long_item_does_not_wait_for_all_that_come_after_it(batcher: Batcher, model: Sum, sessions: Sessions) -> None:
    fills_a_round = ROUND_BATCHES * model.max_batch

    async def use() -> None:
        before = await busy(batcher, model)
        jobs = submit(batcher, [[1, 1], *[[1 + n % 5] for n in range(2 * fills_a_round)]])
        model.gate.set()
        await asyncio.gather(before, *(job.future for job in jobs))

    asyncio.run(use())
    assert [1, 1] in sessions.items[: 1 + fills_a_round]


def test_long_batches_run_side_by_side(make_batcher: Callable[..., Batcher], sessions: Sessions) -> None:
    batcher = make_batcher(threads=2)
    sessions.seconds = lambda items: 1.0

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        assert await run(batcher, [[1] * n for n in range(2, 10)]) == [2, 3, 4, 5, 6, 7, 8, 9]

    asyncio.run(use())
    assert sorted(sessions.sizes) == [1, 1, 2, 2, 2]
    assert {run.threads for run in sessions.runs} == {1}


def test_short_batches_run_one_after_the_other(make_batcher: Callable[..., Batcher], sessions: Sessions) -> None:
    batcher = make_batcher(threads=2)
    sessions.seconds = lambda items: 1e-6
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sessions.sizes == [3, 3, 2]
    assert [run.threads for run in sessions.runs] == [2, 1, 1]  # on one thread, once they are known to be short


def test_what_waits_goes_on_while_another_batch_is_computed(
    make_batcher: Callable[..., Batcher], sessions: Sessions
) -> None:
    batcher = make_batcher(threads=2)
    release = threading.Event()
    sessions.during = lambda run: [9] in run.items and release.wait(LIMIT_SECONDS)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        long, short = submit(batcher, [[9], [1]])
        assert await short.future == 1
        assert await run(batcher, [[2], [3]]) == [2, 3]
        assert not long.future.done()
        release.set()
        assert await long.future == 9

    asyncio.run(use())


def test_batches_can_be_limited_otherwise_than_the_model_says(
    make_batcher: Callable[..., Batcher], sessions: Sessions
) -> None:
    batcher = make_batcher(max_batch=2)
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 6)])) == [1, 2, 3, 4, 5]
    assert max(sessions.sizes) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities of their own")
@pytest.mark.parametrize("niceness", [LOWER_BY, 0])
def test_inference_runs_some_steps_behind_what_answers_requests(
    make_batcher: Callable[..., Batcher], sessions: Sessions, niceness: int
) -> None:
    before = nice_values()
    batcher = make_batcher(threads=3, niceness=niceness)
    all_at_once = threading.Barrier(3, timeout=LIMIT_SECONDS)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        sessions.during = lambda run: all_at_once.wait()
        await run(batcher, [[1]] * 3)

    asyncio.run(use())
    threads = nice_values().items() - before.items()
    assert len(threads) >= 6  # those of the batcher, the pool and the session
    assert {nice for _, nice in threads} == {os.getpriority(os.PRIO_PROCESS, 0) + niceness}


def nice_values() -> dict[str, int]:
    """Return the nice value of each thread of this process, by thread id."""
    return {
        path.parent.name: int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[16])
        for path in Path("/proc/self/task").glob("*/stat")
    }


@pytest.mark.parametrize("comes", [True, False])
def test_a_batch_that_is_not_full_awaits_more_items_for_as_long_as_it_takes(
    make_batcher: Callable[..., Batcher], model: Sum, sessions: Sessions, clock: Clock, comes: bool
) -> None:
    batcher = make_batcher(linger_seconds=LIMIT_SECONDS)
    sessions.seconds = lambda items: 1.0

    async def use() -> None:
        model.gate.clear()
        before = submit(batcher, [[9], [9], [9]])
        await until(lambda: model.seen == [[9]])
        jobs = submit(batcher, [[1], [2]])
        model.gate.set()
        await outputs(before)
        await until(lambda: bool(clock.awaited))
        if comes:
            jobs += submit(batcher, [[3]])
        else:
            clock.advance(1.0)
        assert await outputs(jobs) == [1, 2, 3][: len(jobs)]

    asyncio.run(use())
    assert sessions.sizes == [3, 3 if comes else 2]


def test_an_abandoned_item_is_not_computed(batcher: Batcher, model: Sum) -> None:
    async def use() -> None:
        await busy(batcher, model)
        abandoned, wanted = submit(batcher, [[1], [2]])
        abandoned.future.cancel()
        model.gate.set()
        assert await wanted.future == 2

    asyncio.run(use())
    assert model.seen == [[9], [2]]
    assert has_nothing_to_do(batcher)


def test_an_item_that_is_abandoned_in_preprocessing_is_not_inferred(
    batcher: Batcher, model: Sum, sessions: Sessions
) -> None:
    async def use() -> None:
        abandoned = await busy(batcher, model)
        abandoned.cancel()
        model.gate.set()
        await run(batcher, [[2]])

    asyncio.run(use())
    assert sessions.items == [[2]]


def test_a_refused_item_is_let_go_at_once(batcher: Batcher, model: Sum) -> None:
    class Item(list[int]):
        """A list that supports weak references."""

    async def use() -> weakref.ref[Item]:
        item = Item([-1])
        (outcome,) = await run(batcher, [item])
        assert isinstance(outcome, InvalidInputError)
        assert (outcome.__traceback__, outcome.__context__) == (None, None)
        return weakref.ref(item)

    gc.disable()  # so that a reference cycle would show
    try:
        kept = asyncio.run(use())
        model.seen.clear()
        wait_until(lambda: kept() is None, LIMIT_SECONDS)
    finally:
        gc.enable()


def test_what_is_abandoned_is_not_prepared_after_a_slow_item(batcher: Batcher, model: Sum, clock: Clock) -> None:
    async def use() -> None:
        model.gate.clear()
        first, second, third = submit(batcher, [[9], [1], [2]])
        await until(lambda: model.seen == [[9]])
        second.future.cancel()
        third.deadline = clock()
        model.gate.set()
        assert await first.future == 9
        with pytest.raises(TimeoutError):
            await third.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert has_nothing_to_do(batcher)


def test_an_item_past_its_deadline_is_not_computed(batcher: Batcher, model: Sum, clock: Clock) -> None:
    async def use() -> None:
        await busy(batcher, model)
        (expired,) = submit(batcher, [[1]], clock() + 0.01)
        clock.advance(0.01)
        model.gate.set()
        with pytest.raises(TimeoutError):
            await expired.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert has_nothing_to_do(batcher)


@pytest.mark.parametrize(("queue_seconds", "left_seconds"), [(2.0, 60.0), (60.0, 2.0)])
def test_items_that_would_wait_too_long_are_refused(
    make_batcher: Callable[..., Batcher],
    model: Sum,
    queue_seconds: float,
    left_seconds: float,
    sessions: Sessions,
    clock: Clock,
) -> None:
    batcher = make_batcher(queue_seconds=queue_seconds)
    sessions.seconds = float

    async def use() -> None:
        await warm_up(batcher, sessions, 1, 3)
        await busy(batcher, model)
        submit(batcher, [[1], [2]])
        with pytest.raises(OverloadedError):
            submit(batcher, [[3]], clock() + left_seconds)

    asyncio.run(use())


def test_a_refusal_says_when_to_come_again(
    make_batcher: Callable[..., Batcher], model: Sum, sessions: Sessions
) -> None:
    batcher = make_batcher(queue_seconds=2.0)
    sessions.seconds = float

    async def use() -> float:
        await warm_up(batcher, sessions, 1, 3)
        await busy(batcher, model)
        submit(batcher, [[1]] * 6)
        with pytest.raises(OverloadedError) as refusal:
            submit(batcher, [[3]])
        return refusal.value.retry_after_seconds

    assert asyncio.run(use()) == 5.0  # seven seconds of work are queued, and two are the limit


def test_items_are_refused_when_too_many_wait(make_batcher: Callable[..., Batcher], model: Sum) -> None:
    batcher = make_batcher(queue_items=2)

    async def use() -> None:
        await busy(batcher, model)
        submit(batcher, [[1], [2]])
        with pytest.raises(OverloadedError):
            submit(batcher, [[3]])

    asyncio.run(use())


def test_an_idle_runner_takes_many_items_at_once(make_batcher: Callable[..., Batcher], sessions: Sessions) -> None:
    batcher = make_batcher(queue_items=2, queue_seconds=1.0)
    sessions.seconds = float

    async def use() -> None:
        await warm_up(batcher, sessions, 1, 2)
        assert await run(batcher, [[1]] * 10) == [1] * 10

    asyncio.run(use())


def test_closing_ends_the_thread(batcher: Batcher) -> None:
    before = set(threading.enumerate())
    asyncio.run(run(batcher, [[1]]))
    assert set(threading.enumerate()) > before
    batcher.close()
    assert set(threading.enumerate()) <= before
