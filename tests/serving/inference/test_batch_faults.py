"""Batches that fail, and the items that fail with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.inference.batcher import Batcher
from serving.inference.bisection import MAX_RETRIES
from serving.inference.context import Priority
from serving.inference.errors import ModelFaultError, UnknownModelError
from tests.support.batchers import (
    BROKEN,
    LIMIT_SECONDS,
    MISFIT,
    TABLE,
    Sessions,
    Sum,
    busy,
    has_nothing_to_do,
    run,
    save_sum,
    submit,
    warm_up,
)


class TestFaults:
    """A model that fails leaves no caller waiting."""

    @pytest.mark.parametrize(
        ("graph", "message"),
        [({"axis": 0}, "2 items has the shape"), ({"outputs": ["y", "values"]}, "2 outputs")],
    )
    def test_a_graph_that_does_not_give_an_output_per_item_fails_its_requests(
        self,
        make_batcher: Callable[..., Batcher],
        sessions: Sessions,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        graph: dict[str, Any],
        message: str,
    ) -> None:
        sessions.graph = save_sum(tmp_path, **graph)
        batcher = make_batcher()

        async def use() -> None:
            for job in submit(batcher, [[1, 2, 3], [4, 5, 6]]):
                async with asyncio.timeout(LIMIT_SECONDS):
                    with pytest.raises(ModelFaultError, match=message):
                        await job.future

        asyncio.run(use())
        batcher.close()  # so that all is logged
        (record,) = caplog.records
        assert record.getMessage() == "2 of 2 items in a batch of sum:1 failed"

    @pytest.mark.parametrize("bad", [1, 2, 5])
    def test_bad_items_among_many_fail_alone_and_are_logged_once(
        self, make_batcher: Callable[..., Batcher], caplog: pytest.LogCaptureFixture, bad: int
    ) -> None:
        batcher = make_batcher(max_batch=1_000)
        items = [[n % TABLE] for n in range(1_000)]
        for n in range(bad):
            items[(n + 1) * 150] = MISFIT

        async def use() -> list[Any]:
            jobs = submit(batcher, items)
            await asyncio.wait([job.future for job in jobs])
            return [job.future.exception() or job.future.result() for job in jobs]

        outcomes = asyncio.run(use())
        batcher.close()  # so that all is logged
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [item == MISFIT for item in items]
        assert [record.getMessage() for record in caplog.records] == [f"{bad} of 1000 items in a batch of sum:1 failed"]

    def test_a_batch_of_bad_items_is_not_retried_without_end(
        self,
        make_batcher: Callable[..., Batcher],
        caplog: pytest.LogCaptureFixture,
        sessions: Sessions,
    ) -> None:
        batcher = make_batcher(max_batch=1_000)

        async def use() -> None:
            await warm_up(batcher, sessions, 1)
            jobs = submit(batcher, [MISFIT] * 1_000)
            await asyncio.wait([job.future for job in jobs])
            assert all(job.future.exception() for job in jobs)

        asyncio.run(use())
        assert has_nothing_to_do(batcher)
        batcher.close()  # so that all is logged
        assert len(sessions.sizes) == 1 + MAX_RETRIES
        assert sum(sessions.sizes) <= 8 * 1_000
        assert len(caplog.records) == 1

    @pytest.mark.parametrize("error", [StopIteration("next"), SystemExit("exit"), asyncio.CancelledError("cancelled")])
    def test_an_error_of_any_kind_fails_its_item_alone(
        self, batcher: Batcher, model: Sum, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        preprocess = model.preprocess

        def failing(item: list[int]) -> Any:
            if item == BROKEN:
                raise error
            return preprocess(item)

        monkeypatch.setattr(model, "preprocess", failing)

        async def use() -> None:
            broken, good = submit(batcher, [BROKEN, [2]])
            assert await good.future == 2
            with pytest.raises(RuntimeError, match=str(error)):
                await broken.future
            assert await run(batcher, [[3]]) == [3]

        asyncio.run(use())
        assert has_nothing_to_do(batcher)

    @pytest.mark.parametrize("inputs", [None, {"x": None}, {"y": np.zeros(1)}, {"x": np.zeros(1, dtype=np.float32)}])
    def test_preprocessing_that_gives_something_else_fails_its_item_alone(
        self, batcher: Batcher, model: Sum, monkeypatch: pytest.MonkeyPatch, inputs: Any
    ) -> None:
        preprocess = model.preprocess
        monkeypatch.setattr(model, "preprocess", lambda item: inputs if item == BROKEN else preprocess(item))

        async def use() -> None:
            good, broken, other = submit(batcher, [[1], BROKEN, [2]])
            assert [await good.future, await other.future] == [1, 2]
            await asyncio.wait([broken.future])
            assert broken.future.exception()

        asyncio.run(use())
        assert has_nothing_to_do(batcher)

    def test_what_waits_when_it_is_closed_fails(self, batcher: Batcher, model: Sum) -> None:
        async def use() -> None:
            await busy(batcher, model)
            waiting = submit(batcher, [[1]]) + submit(batcher, [[2]], priority=Priority.BATCH)
            closing = asyncio.create_task(asyncio.to_thread(batcher.close))
            with contextlib.suppress(UnknownModelError):  # raised once the batcher is closing
                while True:
                    waiting += submit(batcher, [[1]])
                    await asyncio.sleep(0.001)
            model.gate.set()
            await closing
            for job in waiting:
                with pytest.raises(RuntimeError, match="closed"):
                    await job.future

        asyncio.run(use())
