"""Batch work that an interactive request needs too is promoted to interactive work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.inference.batcher import Batcher
from serving.inference.context import Priority
from serving.inference.predictor import Predictor
from tests.support.batchers import (
    LATE,
    LIMIT_SECONDS,
    RowSum,
    Sessions,
    Sum,
    a_block,
    a_request,
    busy,
    busy_with_a_row,
    has_nothing_to_do,
    outputs,
    request_while_busy,
    rows,
    until,
    warm_up,
)
from tests.support.metrics import sample


class TestItems:
    """Promotion of single items."""

    @pytest.fixture
    def model(self, predictor: Predictor) -> Sum:
        assert isinstance(predictor.model, Sum)
        return predictor.model

    @pytest.mark.parametrize("settings", [{"batch_share": 0}])
    def test_an_item_that_a_request_shares_with_batch_work_does_not_wait_as_such(
        self, predictor: Predictor, model: Sum
    ) -> None:
        async def use() -> None:
            before = await busy(predictor.batcher, model)
            batch = asyncio.create_task(predictor.outputs([[2], [1]], a_request(priority=Priority.BATCH)))
            await until(lambda: len(predictor.in_flight) == 2)
            interactive = asyncio.create_task(predictor.outputs([[1]], a_request()))
            await until(lambda: sample("tiffin_queue_items", model="sum", version="1") == 1)
            model.gate.set()
            assert [await before, await interactive, await batch] == [9, [1], [2, 1]]

        asyncio.run(use())
        assert model.seen == [[9], [1], [2]]

    def test_an_item_that_batch_work_shares_with_a_request_stays_interactive(
        self, predictor: Predictor, model: Sum
    ) -> None:
        async def use() -> None:
            interactive, batch = await request_while_busy(predictor, a_request(), a_request(priority=Priority.BATCH))
            assert sample("tiffin_queue_items", model="sum", version="1") == 1
            model.gate.set()
            assert [await interactive, await batch] == [[1], [1]]

        asyncio.run(use())
        assert model.seen == [[9], [1]]


class TestBlocks:
    """Promotion of blocks of rows."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Sum:
        return RowSum(tmp_path)

    def test_the_rest_of_a_block_that_was_begun_can_become_interactive(
        self, make_batcher: Callable[..., Batcher], sessions: Sessions, model: Sum
    ) -> None:
        batcher = make_batcher(max_batch=8)
        release = threading.Event()

        async def use() -> None:
            await warm_up(batcher, sessions, 1, item=rows(2)[0])
            sessions.during = lambda run: release.wait(LIMIT_SECONDS)
            blocks = [a_block(*[3] * 8, priority=Priority.BATCH), a_block(*[4] * 8, priority=Priority.BATCH)]
            batcher.enqueue([*blocks], LATE)
            await until(lambda: len(sessions.runs) == 1)
            batcher.promote(blocks[:1])
            release.set()
            assert await outputs(blocks) == [[3] * 8, [4] * 8]

        asyncio.run(use())
        assert sessions.sizes == [2, 6, 2, 2, 2, 2]
        assert has_nothing_to_do(batcher)

    def test_a_block_that_becomes_interactive_does_not_wait_for_batch_work(
        self, batcher: Batcher, sessions: Sessions, model: Sum
    ) -> None:
        async def use() -> None:
            await warm_up(batcher, sessions, 1, item=rows(2)[0])
            await busy_with_a_row(batcher, model)
            blocks = [a_block(*[value] * 3, priority=Priority.BATCH) for value in (3, 4, 5)]
            batcher.enqueue(blocks, LATE)
            batcher.promote(blocks[2:])
            model.gate.set()
            await outputs(blocks)

        asyncio.run(use())
        assert [2, 3] in sessions.runs[1].items + sessions.runs[2].items
        assert has_nothing_to_do(batcher)
