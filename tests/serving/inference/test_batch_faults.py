"""Batches that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.model import Array
from serving.inference.batcher import Batcher
from serving.inference.bisection import MAX_RETRIES
from serving.inference.errors import ModelFaultError
from serving.inference.queue import Job
from tests.support.batchers import (
    BROKEN,
    LIMIT_SECONDS,
    MISFIT,
    TABLE,
    Sum,
    WatchedBatcher,
    busy,
    run,
    save_sum,
    soon,
    submit,
    until,
)


class TestFaults:
    """A model that fails leaves nobody waiting."""

    @pytest.mark.parametrize(
        ("graph", "message"),
        [({"axis": 0}, "2 items has the shape"), ({"outputs": ["y", "values"]}, "2 outputs")],
    )
    def test_a_graph_that_does_not_give_an_output_per_item_fails_its_requests(
        self,
        make_batcher: Callable[..., WatchedBatcher],
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        graph: dict[str, Any],
        message: str,
    ) -> None:
        batcher = make_batcher(graph=save_sum(tmp_path, **graph))

        async def use() -> None:
            for job in submit(batcher, [[1, 2, 3], [4, 5, 6]], soon()):
                async with asyncio.timeout(LIMIT_SECONDS):
                    with pytest.raises(ModelFaultError, match=message):
                        await job.future

        asyncio.run(use())
        assert batcher.unfinished == 0
        batcher.close()  # so that it has logged
        (record,) = caplog.records
        assert record.getMessage() == "2 of 2 items in a batch of sum:1 failed"

    @pytest.mark.parametrize("bad", [1, 2, 5])
    def test_bad_items_among_many_fail_alone_and_are_logged_once(
        self, make_batcher: Callable[..., WatchedBatcher], caplog: pytest.LogCaptureFixture, bad: int
    ) -> None:
        batcher = make_batcher(max_batch=1_000)
        items = [[n % TABLE] for n in range(1_000)]
        for n in range(bad):
            items[(n + 1) * 150] = MISFIT

        async def use() -> list[Any]:
            jobs = submit(batcher, items, soon())
            await asyncio.wait([job.future for job in jobs])
            return [job.future.exception() or job.future.result() for job in jobs]

        outcomes = asyncio.run(use())
        batcher.close()  # so that it has logged
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [item == MISFIT for item in items]
        assert [record.getMessage() for record in caplog.records] == [f"{bad} of 1000 items in a batch of sum:1 failed"]

    def test_a_batch_of_bad_items_is_not_retried_without_end(
        self,
        make_batcher: Callable[..., WatchedBatcher],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        batcher = make_batcher(max_batch=1_000)
        runs: list[int] = []
        outputs = batcher.outputs

        def counted(batch: Sequence[Job], parallel: int) -> Sequence[Array]:
            runs.append(len(batch))
            return outputs(batch, parallel)

        monkeypatch.setattr(batcher, "outputs", counted)

        async def use() -> None:
            jobs = submit(batcher, [MISFIT] * 1_000, soon())
            await asyncio.wait([job.future for job in jobs])
            assert all(job.future.exception() for job in jobs)

        asyncio.run(use())
        assert batcher.unfinished == 0
        batcher.close()  # so that it has logged
        assert len(runs) == 1 + MAX_RETRIES
        assert sum(runs) <= 8 * 1_000
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
            broken, good = submit(batcher, [BROKEN, [2]], soon())
            assert await good.future == 2
            with pytest.raises(RuntimeError, match=str(error)):
                await broken.future
            assert await run(batcher, [[3]]) == [3]

        asyncio.run(use())
        assert batcher.unfinished == 0

    @pytest.mark.parametrize("inputs", [None, {"x": None}, {"y": np.zeros(1)}, {"x": np.zeros(1, dtype=np.float32)}])
    def test_preprocessing_that_gives_something_else_fails_its_item_alone(
        self, batcher: Batcher, model: Sum, monkeypatch: pytest.MonkeyPatch, inputs: Any
    ) -> None:
        preprocess = model.preprocess
        monkeypatch.setattr(model, "preprocess", lambda item: inputs if item == BROKEN else preprocess(item))

        async def use() -> None:
            good, broken, other = submit(batcher, [[1], BROKEN, [2]], soon())
            assert [await good.future, await other.future] == [1, 2]
            await asyncio.wait([broken.future])
            assert broken.future.exception()

        asyncio.run(use())
        assert batcher.unfinished == 0

    def test_what_waits_when_it_is_closed_fails(self, batcher: Batcher, model: Sum) -> None:
        async def use() -> None:
            await busy(batcher, model)
            (job,) = submit(batcher, [[1]], soon())
            closing = asyncio.create_task(asyncio.to_thread(batcher.close))
            await until(lambda: batcher.closed)
            model.gate.set()
            await closing
            with pytest.raises(RuntimeError, match="closed"):
                await job.future

        asyncio.run(use())
