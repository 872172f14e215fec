"""Blocks of rows in the batcher's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.inference.batcher import Batcher
from serving.inference.errors import OverloadedError
from tests.support.batchers import (
    ITEM_SECONDS,
    LATE,
    TABLE,
    RowSum,
    Sessions,
    Sum,
    a_block,
    busy_with_a_row,
    has_nothing_to_do,
    rows,
    submit,
    until,
    warm_up,
)
from tests.support.clocks import Clock
from tests.support.metrics import sample


class TestBlocks:
    """Blocks of rows, computed one at a time or together."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Sum:
        return RowSum(tmp_path)

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("batch_seconds", [1e-6, 1.0])
    def test_blocks_and_items_get_their_outputs(
        self, make_batcher: Callable[..., Batcher], threads: int, batch_seconds: float, sessions: Sessions
    ) -> None:
        batcher = make_batcher(threads)
        sessions.seconds = lambda items: batch_seconds

        async def use() -> list[Any]:
            await warm_up(batcher, sessions, 1, item=rows(2)[0])
            jobs = [a_block(1, 2, 3), *submit(batcher, [rows(4)[0]], LATE), a_block(5), a_block(6, 7)]
            batcher.enqueue([job for job in jobs if job.block], LATE)
            return [np.asarray(await job.future).tolist() for job in jobs]

        assert asyncio.run(use()) == [[1, 2, 3], 4, [5], [6, 7]]
        assert has_nothing_to_do(batcher)

    def test_small_blocks_share_a_batch(self, batcher: Batcher, model: Sum, sessions: Sessions) -> None:
        async def use() -> None:
            await busy_with_a_row(batcher, model)
            jobs = [a_block(1), a_block(2, 3), a_block(4, 5)]
            batcher.enqueue(jobs, LATE)
            model.gate.set()
            assert [np.asarray(await job.future).tolist() for job in jobs] == [[1], [2, 3], [4, 5]]

        asyncio.run(use())
        assert sessions.sizes == [1, 3, 2]

    def test_an_item_waits_for_one_batch_of_blocks_only(self, batcher: Batcher, model: Sum, sessions: Sessions) -> None:
        async def use() -> None:
            await busy_with_a_row(batcher, model)
            blocks = [a_block(n, n, n) for n in range(8)]
            batcher.enqueue(blocks, LATE)
            (item,) = submit(batcher, [rows(9)[0]], LATE)
            model.gate.set()
            assert await item.future == 9
            await asyncio.wait([job.future for job in blocks])

        asyncio.run(use())
        assert sessions.sizes == [1, 1] + 8 * [3]

    def test_the_queue_counts_rows(self, batcher: Batcher, model: Sum, sessions: Sessions) -> None:
        async def use() -> None:
            await warm_up(batcher, sessions, 3, item=rows(2)[0])
            before = sample("tiffin_batch_items_sum", model="sum", version="1")
            await busy_with_a_row(batcher, model)
            jobs = [a_block(1, 2, 3), a_block(4, 5)]
            batcher.enqueue(jobs, LATE)
            assert batcher.expected_wait(block=True) == 6 * ITEM_SECONDS
            assert sample("tiffin_queue_items", model="sum", version="1") == 5
            model.gate.set()
            await asyncio.wait([job.future for job in jobs])
            assert sample("tiffin_batch_items_sum", model="sum", version="1") == before + 6

        asyncio.run(use())
        assert has_nothing_to_do(batcher)
        assert sample("tiffin_queue_items", model="sum", version="1") == 0

    @pytest.mark.parametrize("reason", ["abandoned", "expired"])
    def test_a_block_that_nobody_can_have_is_not_computed(
        self, batcher: Batcher, model: Sum, reason: str, clock: Clock
    ) -> None:
        before = sample("tiffin_dropped_items_total", model="sum", version="1", reason=reason)

        async def use() -> None:
            await busy_with_a_row(batcher, model)
            dropped = a_block(1, 2, 3)
            batcher.enqueue([dropped, wanted := a_block(4)], LATE)
            if reason == "expired":
                dropped.deadline = clock()
            else:
                dropped.future.cancel()
            model.gate.set()
            assert await wanted.future == [4]
            await asyncio.wait([dropped.future])

        asyncio.run(use())
        assert len(model.seen) == 2
        assert has_nothing_to_do(batcher)
        assert sample("tiffin_dropped_items_total", model="sum", version="1", reason=reason) == before + 3

    def test_blocks_are_refused_when_too_many_rows_wait(self, make_batcher: Callable[..., Batcher], model: Sum) -> None:
        batcher = make_batcher(queue_items=3)
        before = sample("tiffin_dropped_items_total", model="sum", version="1", reason="refused")

        async def use() -> None:
            await busy_with_a_row(batcher, model)
            batcher.enqueue([a_block(1, 2, 3)], LATE)
            with pytest.raises(OverloadedError):
                batcher.enqueue([a_block(1, 2)], LATE)

        asyncio.run(use())
        assert sample("tiffin_dropped_items_total", model="sum", version="1", reason="refused") == before + 2

    def test_items_are_taken_however_many_rows_wait_in_blocks(
        self, make_batcher: Callable[..., Batcher], model: Sum, sessions: Sessions
    ) -> None:
        batcher = make_batcher(queue_items=3, queue_seconds=2.5)
        sessions.seconds = lambda items: 1.0

        async def use() -> None:
            await warm_up(batcher, sessions, 1, 3, item=rows(2)[0])
            await busy_with_a_row(batcher, model)
            batcher.enqueue([a_block(n, n, n) for n in range(9)], LATE)
            (item,) = submit(batcher, [rows(8)[0]], LATE)
            model.gate.set()
            assert await item.future == 8

        asyncio.run(use())

    def test_a_block_with_a_bad_row_fails_and_others_do_not(self, batcher: Batcher, model: Sum) -> None:
        async def use() -> None:
            await busy_with_a_row(batcher, model)
            good, bad = a_block(1), a_block(2, 2 * TABLE)
            batcher.enqueue([good, bad], LATE)
            model.gate.set()
            assert await good.future == [1]
            with pytest.raises(Exception, match="out of data bounds"):
                await bad.future

        asyncio.run(use())
        assert has_nothing_to_do(batcher)


class SlowRowSum(RowSum):
    """A model that preprocesses a row, or a block, in ten milliseconds of the clock."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock

    def preprocess(self, item: Any) -> dict[str, Any]:
        """Advance the clock, then set the inputs."""
        self.clock.advance(0.01)
        return super().preprocess(item)


class TestPreprocessing:
    """The foreseen wait behind blocks, whose rows are preprocessed in one go."""

    @pytest.fixture
    def model(self, tmp_path: Path, clock: Clock) -> Sum:
        return SlowRowSum(tmp_path, clock)

    def test_the_rows_of_a_block_do_not_count_as_single_rows(
        self, make_batcher: Callable[..., Batcher], model: Sum, sessions: Sessions
    ) -> None:
        batcher = make_batcher(max_batch=4_096)
        sessions.seconds = lambda items: 1e-6

        async def use() -> None:
            await warm_up(batcher, sessions, 1, item=rows(2)[0])
            model.gate.clear()
            block = a_block(*range(1_000))
            batcher.enqueue([block], LATE)
            await until(lambda: len(model.seen) > 1)
            (item,) = submit(batcher, [rows(9)[0]], LATE)
            model.gate.set()
            assert await item.future == 9

        asyncio.run(use())
        assert has_nothing_to_do(batcher)
