"""Rows that are computed in the event loop, since that takes less than handing them to a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models.model import InvalidInputError
from serving.inference.at_once import IDLE_SECONDS, MOST_SECONDS, QUIET_SECONDS, QUIET_TURNS, TRIED_ONE_IN
from serving.inference.batcher import Batcher
from serving.inference.context import Priority
from serving.inference.errors import UnknownModelError
from tests.support.batchers import RowSum, Run, Sessions, Sum, outputs, rows, submit
from tests.support.clocks import Clock


@pytest.fixture
def model(tmp_path: Path) -> Sum:
    return RowSum(tmp_path)


@pytest.fixture
def threads(sessions: Sessions) -> list[bool]:
    """For each run, whether it was in the main thread, in which the event loop runs."""
    found: list[bool] = []

    def during(_: Run) -> None:
        found.append(threading.current_thread() is threading.main_thread())

    sessions.during = during
    return found


@pytest.fixture
def make_small(
    make_batcher: Callable[..., Batcher], sessions: Sessions, threads: list[bool]
) -> Callable[[float], Batcher]:
    """Return what makes a batcher that lingers for so many seconds, and whose graph takes little, as it knows."""

    def make(linger_seconds: float) -> Batcher:
        sessions.seconds = lambda items: items * MOST_SECONDS / 8
        batcher = make_batcher(max_batch=64, linger_seconds=linger_seconds)
        batcher.at_once.measure(rows(9)[:1])
        sessions.runs.clear()
        threads.clear()
        return batcher

    return make


@pytest.fixture
def small(make_small: Callable[[float], Batcher]) -> Batcher:
    return make_small(0.0)


class TestRows:
    def test_what_comes_in_one_turn_is_computed_there_in_a_batch(
        self, small: Batcher, sessions: Sessions, threads: list[bool]
    ) -> None:
        async def use() -> None:
            jobs = [job for row in rows(1, 2, 3) for job in submit(small, [row])]
            assert await outputs(jobs) == [1, 2, 3]
            assert await outputs(submit(small, rows(4))) == [4]

        asyncio.run(use())
        assert (sessions.sizes, threads) == ([3, 1], [True, True])

    def test_what_comes_before_the_event_loop_is_quiet_is_computed_in_a_batch(
        self, make_small: Callable[[float], Batcher], sessions: Sessions, clock: Clock
    ) -> None:
        batcher = make_small(1.0)

        async def use() -> None:
            jobs = submit(batcher, rows(1))
            for value in (2, 3):
                for _ in range(QUIET_TURNS):
                    clock.advance(2 * QUIET_SECONDS)  # as where something else is computed meanwhile
                    await asyncio.sleep(0)
                jobs += submit(batcher, rows(value))
            assert await outputs(jobs) == [1, 2, 3]

        asyncio.run(use())
        assert sessions.sizes == [3]

    def test_no_more_is_waited_for_than_the_setting_says(
        self, make_small: Callable[[float], Batcher], sessions: Sessions, clock: Clock
    ) -> None:
        batcher = make_small(QUIET_SECONDS)

        async def use() -> None:
            jobs = submit(batcher, rows(1))
            clock.advance(2 * QUIET_SECONDS)
            await asyncio.sleep(0)
            assert await outputs([*jobs, *submit(batcher, rows(2))]) == [1, 2]

        asyncio.run(use())
        assert sessions.sizes == [1, 1]

    def test_a_batch_that_is_held_up_once_is_forgotten(
        self, small: Batcher, sessions: Sessions, threads: list[bool]
    ) -> None:
        usual = sessions.seconds

        async def use() -> None:
            sessions.seconds = lambda items: 100 * MOST_SECONDS
            await outputs(submit(small, rows(1)))
            sessions.seconds = usual
            await outputs(submit(small, rows(2)))

        asyncio.run(use())
        assert threads == [True, True]

    def test_what_takes_long_together_is_handed_to_the_thread(
        self, small: Batcher, sessions: Sessions, threads: list[bool]
    ) -> None:
        async def use() -> None:
            jobs = [job for _ in range(20) for job in submit(small, rows(5))]
            assert await outputs(jobs) == [5] * 20

        asyncio.run(use())
        assert (sessions.sizes, threads) == ([20], [False])

    def test_batch_work_is_left_to_the_thread(self, small: Batcher, threads: list[bool]) -> None:
        async def use() -> None:
            assert await outputs(submit(small, rows(1), priority=Priority.BATCH)) == [1]

        asyncio.run(use())
        assert threads == [False]

    def test_a_graph_that_becomes_slow_is_left_to_the_thread_but_for_a_try(
        self, small: Batcher, sessions: Sessions, threads: list[bool]
    ) -> None:
        sessions.seconds = lambda items: items * MOST_SECONDS * 3

        async def use() -> None:
            for _ in range(100 + TRIED_ONE_IN):
                await outputs(submit(small, rows(1)))

        asyncio.run(use())
        assert threads[0]
        assert sum(threads[100:]) == 1

    def test_a_graph_that_comes_to_wait_for_something_else_is_left_to_the_thread(
        self, small: Batcher, sessions: Sessions, threads: list[bool]
    ) -> None:
        small.at_once.cpu_clock = Clock()
        sessions.seconds = lambda items: IDLE_SECONDS * 10

        async def use() -> None:
            for _ in range(10):
                await outputs(submit(small, rows(1)))

        asyncio.run(use())
        assert threads[0]
        assert not threads[-1]

    def test_a_bad_row_fails_alone(self, small: Batcher, threads: list[bool]) -> None:
        async def use() -> None:
            (first, bad, last) = submit(small, [rows(1)[0], -rows(2)[0], rows(3)[0]])
            assert await outputs([first, last]) == [1, 3]
            assert isinstance(await bad.future, InvalidInputError)

        asyncio.run(use())
        assert threads == [True]

    def test_a_row_that_breaks_the_graph_fails_alone(self, small: Batcher) -> None:
        async def use() -> None:
            (first, broken) = submit(small, [rows(1)[0], rows(1_000)[0]])
            assert await outputs([first]) == [1]
            with pytest.raises(Exception, match="out of data bounds"):
                await broken.future

        asyncio.run(use())

    def test_what_waits_for_its_turn_when_the_batcher_is_closed_fails(self, small: Batcher) -> None:
        async def use() -> None:
            jobs = [job for _ in range(20) for job in submit(small, rows(5))]
            small.close()
            found = await asyncio.gather(*(job.future for job in jobs), return_exceptions=True)
            assert {type(error) for error in found} == {UnknownModelError}

        asyncio.run(use())


class TestOtherItems:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Sum:
        return Sum(tmp_path)

    def test_items_that_differ_in_what_they_take_are_left_to_the_thread(
        self, small: Batcher, threads: list[bool]
    ) -> None:
        async def use() -> None:
            assert await outputs(submit(small, [[1], [1, 2]])) == [1, 3]

        asyncio.run(use())
        assert not any(threads)


def test_what_nothing_was_measured_of_is_left_to_the_thread(
    make_batcher: Callable[..., Batcher], threads: list[bool]
) -> None:
    async def use() -> None:
        assert await outputs(submit(make_batcher(), rows(1))) == [1]

    asyncio.run(use())
    assert threads == [False]
