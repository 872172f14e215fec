"""Preprocessing of batch work beside interactive work, on a simulated clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models.model import Array
from serving.inference.batcher import Batcher
from serving.inference.context import Priority
from tests.support.batchers import (
    BROKEN,
    ITEM_SECONDS,
    LIMIT_SECONDS,
    Sessions,
    Sum,
    busy,
    outputs,
    submit,
    submit_batch_work,
    until,
    warm_up,
)
from tests.support.clocks import Clock

INTERACTIVE, BATCH, LARGE = [1], [2], [3]


class SlowSum(Sum):
    """A model whose preprocessing advances the clock by the `seconds` of an item, and calls `during` with it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock
        self.seconds: Callable[[list[int]], float] = lambda item: 0.0
        self.during: Callable[[list[int]], object] = lambda item: None

    def preprocess(self, item: list[int]) -> dict[str, Array]:
        """Advance the clock, then set the inputs."""
        self.during(item)
        self.clock.advance(self.seconds(item))
        return super().preprocess(item)


@pytest.fixture
def model(tmp_path: Path, clock: Clock) -> SlowSum:
    return SlowSum(tmp_path, clock)


@pytest.mark.parametrize(
    ("preparing", "sizes"),
    # After a batch of ten, one of eight to fifteen counts as if it had had eight.
    [(1 / 1024, [10, 9, 1]), (1 / 128, [2] * 10), (1 / 64, [1] * 20), (1.0, [1] * 20)],
)
def test_a_run_of_batch_work_is_20_ms_of_preprocessing_and_inference(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: SlowSum, preparing: float, sizes: list[int]
) -> None:
    batcher = make_batcher(max_batch=16)
    sessions.seconds = lambda items: items / 1024

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        model.seconds = lambda item: preparing
        await outputs(submit_batch_work(batcher, [BATCH] * 20))

    asyncio.run(use())
    assert sessions.sizes == sizes


def test_an_item_that_takes_long_after_quick_ones_ends_its_run(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: SlowSum
) -> None:
    batcher = make_batcher(max_batch=16)
    sessions.seconds = lambda items: items / 1024

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        model.seconds = lambda item: 1.0 if item == LARGE else 0.0
        await outputs(submit_batch_work(batcher, [BATCH] * 4 + [LARGE] * 3))

    asyncio.run(use())
    assert sessions.sizes == [5, 1, 1]


@pytest.mark.parametrize("share", [1 / 16, 1])
@pytest.mark.parametrize("threads", [2, 3])
def test_interactive_work_goes_on_while_batch_work_is_preprocessed(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: SlowSum, threads: int, share: float
) -> None:
    batcher = make_batcher(threads, batch_share=share)
    release = threading.Event()
    begun: list[list[int]] = []

    def hold(item: list[int]) -> None:
        if item == BATCH:
            begun.append(item)
            release.wait(LIMIT_SECONDS)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        model.during = hold
        later = submit_batch_work(batcher, [BATCH] * 10)
        await until(lambda: len(begun) == threads - 1)
        async with asyncio.timeout(LIMIT_SECONDS / 2):
            assert await outputs(submit(batcher, [INTERACTIVE] * 5)) == [1] * 5
        assert len(begun) == threads - 1
        release.set()
        await outputs(later)

    asyncio.run(use())


def test_preprocessing_counts_for_the_share(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: SlowSum
) -> None:
    batcher = make_batcher(batch_share=1 / 4, queue_seconds=1_000.0, max_batch=1)

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        model.seconds = lambda item: 3 * ITEM_SECONDS if item == BATCH else 0.0
        await busy(batcher, model)
        jobs = submit(batcher, [INTERACTIVE] * 480) + submit_batch_work(batcher, [BATCH] * 100)
        model.gate.set()
        await outputs(jobs)

    asyncio.run(use())
    contended = sessions.items[: len(sessions.items) - sessions.items[::-1].index(INTERACTIVE)]
    # Each item of batch work takes four times as long as one of interactive work, and a quarter of the time is its.
    assert 480 / 12 - 2 <= contended.count(BATCH) <= 480 / 12 + 1


def test_failed_preprocessing_counts_for_the_share(
    make_batcher: Callable[..., Batcher], sessions: Sessions, model: SlowSum
) -> None:
    batcher = make_batcher(batch_share=1 / 4, queue_seconds=1_000.0, max_batch=1)
    order: list[list[int]] = []
    model.during = order.append

    async def use() -> None:
        await warm_up(batcher, sessions, 1)
        model.seconds = lambda item: 4 * ITEM_SECONDS if item == BROKEN else 0.0
        await busy(batcher, model)
        broken = submit_batch_work(batcher, [BROKEN] * 100)
        jobs = submit(batcher, [INTERACTIVE] * 480)
        model.gate.set()
        await outputs(jobs)
        await asyncio.wait([job.future for job in broken])

    asyncio.run(use())
    contended = order[: len(order) - order[::-1].index(INTERACTIVE)]
    assert 480 / 12 - 2 <= contended.count(BROKEN) <= 480 / 12 + 1


def test_preprocessing_of_batch_work_does_not_slow_the_pace_of_interactive_work(
    batcher: Batcher, sessions: Sessions, model: SlowSum
) -> None:
    async def use() -> None:
        await warm_up(batcher, sessions, 1, 3)
        model.seconds = lambda item: 1.0 if item == BATCH else 0.0
        await outputs(submit_batch_work(batcher, [BATCH] * 4))
        await busy(batcher, model)
        assert batcher.expected_wait() == ITEM_SECONDS
        submit_batch_work(batcher, [BATCH] * 2)
        assert batcher.expected_wait(Priority.BATCH) == 3 * ITEM_SECONDS + 2 * 1.0

    asyncio.run(use())
