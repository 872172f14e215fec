"""Rows that are computed in the event loop, since that takes less than handing them to a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models.model import InvalidInputError
from serving.inference.at_once import IDLE_SECONDS, MOST_SECONDS, TRIED_ONE_IN
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
def small(make_batcher: Callable[..., Batcher], sessions: Sessions, threads: list[bool]) -> Batcher:
    """Return a batcher whose graph takes little, as it knows."""
    sessions.seconds = lambda items: items * MOST_SECONDS / 8
    batcher = make_batcher(max_batch=64)
    batcher.at_once.measure(rows(9)[:1])
    sessions.runs.clear()
    threads.clear()
    return batcher


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
