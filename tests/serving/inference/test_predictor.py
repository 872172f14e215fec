"""The predictor: cached outputs are not computed again, and equal items in flight are computed once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.model import Array, InvalidInputError
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.inference.errors import OverloadedError
from serving.inference.job import Job, outcome_of
from serving.inference.pace import PARALLEL_SECONDS
from serving.inference.predictor import BLOCK_ROWS, Predictor
from tests.support.batchers import (
    BROKEN,
    LATE,
    SUM,
    RowSum,
    Sum,
    a_request,
    busy,
    busy_with_a_row,
    request_while_busy,
    rows,
    until,
)
from tests.support.clocks import Clock
from tests.support.metrics import sample


@pytest.fixture
def model(predictor: Predictor) -> Sum:
    assert isinstance(predictor.model, Sum)
    return predictor.model


def test_only_what_is_missing_is_computed(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        await predictor.outputs([[1], [2]], a_request())
        assert await predictor.outputs([[2], [3], [1]], a_request()) == [2, 3, 1]

    asyncio.run(use())
    assert sorted(model.seen) == [[1], [2], [3]]


def test_a_request_knows_what_was_cached_and_for_how_long(predictor: Predictor, clock: Clock) -> None:
    request = a_request()

    async def use() -> None:
        await predictor.outputs([[1]], a_request())
        clock.now += 5
        await predictor.outputs([[2]], a_request())
        clock.now += 7
        await predictor.outputs([[1], [2], [3]], request)

    asyncio.run(use())
    assert (request.hits, request.misses, request.age, request.cache_outcome) == (2, 1, 12, "partial")


def test_equal_items_of_a_request_are_computed_once(predictor: Predictor, model: Sum) -> None:
    assert asyncio.run(predictor.outputs([[1], [2], [1]], a_request())) == [1, 2, 1]
    assert sorted(model.seen) == [[1], [2]]


def test_equal_items_of_concurrent_requests_are_computed_once(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        asking = await request_while_busy(predictor, a_request(), a_request())
        model.gate.set()
        assert await asyncio.gather(*asking) == [[1], [1]]

    asyncio.run(use())
    assert model.seen == [[9], [1]]
    assert not predictor.in_flight


def test_what_is_awaited_with_others_is_a_miss(predictor: Predictor, model: Sum) -> None:
    request = a_request()

    async def use() -> None:
        asking = await request_while_busy(predictor, a_request(), request)
        model.gate.set()
        await asyncio.gather(*asking)

    asyncio.run(use())
    assert (request.hits, request.misses, request.cache_outcome) == (0, 1, "miss")


def test_one_who_leaves_does_not_take_the_output_from_another(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        first, second = await request_while_busy(predictor, a_request(), a_request())
        first.cancel()
        await asyncio.wait([first])
        model.gate.set()
        assert await second == [1]

    asyncio.run(use())


def test_what_nobody_waits_for_is_not_computed(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        asking = await request_while_busy(predictor, a_request(), a_request())
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        model.gate.set()
        await predictor.outputs([[2]], a_request())

    asyncio.run(use())
    assert model.seen == [[9], [2]]
    assert not predictor.in_flight


def test_one_who_comes_as_the_last_leaves_is_answered(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        (leaving,) = await request_while_busy(predictor, a_request())
        leaving.cancel()
        coming = asyncio.create_task(predictor.outputs([[1]], a_request()))  # starts right after the cancellation
        model.gate.set()
        assert await coming == [1]

    asyncio.run(use())


def test_one_with_more_time_prolongs_what_another_asked_for(predictor: Predictor, model: Sum, clock: Clock) -> None:
    async def use() -> None:
        hurried = a_request(deadline=clock() + 2.0)
        asking = await request_while_busy(predictor, hurried, a_request())
        clock.advance(2.0)
        model.gate.set()
        assert await asking[1] == [1]

    asyncio.run(use())


def test_with_no_cache_all_is_computed_anew_and_kept(predictor: Predictor, model: Sum, clock: Clock) -> None:
    anew, after = a_request(no_cache=True), a_request()

    async def use() -> None:
        await predictor.outputs([[1]], a_request())
        clock.now += 100
        await predictor.outputs([[1]], anew)
        clock.now += 1
        await predictor.outputs([[1]], after)

    asyncio.run(use())
    assert model.seen == [[1], [1]]
    assert (anew.cache_outcome, anew.age) == ("miss", 0)
    assert (after.cache_outcome, after.age) == ("hit", 1)


def test_with_no_cache_nothing_in_flight_is_joined(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        asking = await request_while_busy(predictor, a_request())
        asking.append(asyncio.create_task(predictor.outputs([[1]], a_request(no_cache=True))))
        await until(lambda: sample("tiffin_queue_items", model="sum", version="1") == 2)
        model.gate.set()
        assert await asyncio.gather(*asking) == [[1], [1]]

    asyncio.run(use())
    assert model.seen == [[9], [1], [1]]


def test_with_no_store_nothing_is_kept(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        await predictor.outputs([[1]], a_request(no_cache=True, no_store=True))
        await predictor.outputs([[1]], a_request())

    asyncio.run(use())
    assert model.seen == [[1], [1]]


def test_an_item_that_cannot_be_used_is_not_kept(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        for _ in range(2):
            (output,) = await predictor.outputs([[-1]], a_request())
            assert isinstance(output, InvalidInputError)

    asyncio.run(use())
    assert model.seen == [[-1], [-1]]


def test_an_item_that_fails_is_tried_again(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="broken"):
                await predictor.outputs([BROKEN], a_request())

    asyncio.run(use())
    assert model.seen == [BROKEN, BROKEN]


def test_an_output_is_stored_before_those_who_wait_for_it_go_on() -> None:
    landed: list[object] = []

    async def use() -> None:
        job = Job(1, LATE, asyncio.get_running_loop())
        job.future.add_done_callback(landed.append)
        job.settle(np.array(1))
        await outcome_of([job])
        assert landed == [job.future]

    asyncio.run(use())


def test_its_pace_tells_how_batches_are_computed(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor.batcher, "threads", 2)
    most = predictor.batcher.max_batch
    predictor.batcher.pace.record(most, PARALLEL_SECONDS / 2)
    assert predictor.info["batches"] == {"max_items": most, "at_a_time": 1, "threads": 2}
    for _ in range(50):
        predictor.batcher.pace.record(most, 2 * PARALLEL_SECONDS)
    assert predictor.info["batches"] == {"max_items": most, "at_a_time": 2, "threads": 1}


def test_infer_stacks_the_outputs(predictor: Predictor) -> None:
    assert asyncio.run(predictor.infer([[1], [2]], a_request())).tolist() == [1, 2]


def test_infer_raises_what_is_wrong_with_an_item(predictor: Predictor) -> None:
    with pytest.raises(InvalidInputError, match="negative"):
        asyncio.run(predictor.infer([[1], [-1]], a_request()))


def test_the_key_of_an_item_depends_on_the_version_of_the_model(
    predictor: Predictor, tmp_path: Path, clock: Clock
) -> None:
    newer = Predictor(SUM._replace(version="2"), Sum(tmp_path), tmp_path / "model.onnx", predictor.cache, threads=1)
    assert newer.key([1]) != predictor.key([1])
    newer.batcher.close()


@pytest.mark.parametrize("settings", [{"queue_items": 1}])
def test_what_is_known_or_in_flight_is_answered_while_the_model_is_overloaded(predictor: Predictor, model: Sum) -> None:
    before = sample("tiffin_dropped_items_total", model="sum", version="1", reason="refused")

    async def use() -> None:
        await predictor.outputs([[1], [2]], a_request())
        model.seen.clear()
        await busy(predictor.batcher, model)
        in_flight = asyncio.create_task(predictor.outputs([[3]], a_request()))
        await until(lambda: len(predictor.in_flight) == 1)
        assert await predictor.outputs([[1], [2]], a_request()) == [1, 2]
        joined = asyncio.create_task(predictor.outputs([[3], [1]], a_request()))
        await until(lambda: sum(job.waiters for job in predictor.in_flight.values()) == 2)
        with pytest.raises(OverloadedError):
            await predictor.outputs([[1], [4], [5]], a_request())
        model.gate.set()
        assert [await in_flight, await joined] == [[3], [3, 1]]

    asyncio.run(use())
    assert sample("tiffin_dropped_items_total", model="sum", version="1", reason="refused") == before + 2


class FaultyCache(PredictionCache):
    """A cache whose shared tier raises an unforeseen error."""

    async def get_shared(self, keys: Collection[bytes]) -> dict[bytes, tuple[Array, float]]:
        raise KeyError("unforeseen")


def test_an_unforeseen_fault_of_the_cache_leaves_nobody_waiting(predictor: Predictor) -> None:
    redis: Any = SimpleNamespace(put=lambda key, output: None)
    predictor.cache = FaultyCache(MemoryCache("test", 10**6, 180), redis)

    async def use() -> None:
        async with asyncio.timeout(60):
            assert await predictor.outputs([[1], [2]], a_request()) == [1, 2]

    asyncio.run(use())
    assert not predictor.in_flight


class TestBulk:
    """Bulk requests, which are cut into blocks, here of three rows."""

    ROWS = rows(*(n % 10 for n in range(BLOCK_ROWS + 1)))
    SUMS = tuple(float(n % 10) for n in range(BLOCK_ROWS + 1))
    BLOCKS = 86

    @pytest.fixture
    def model_class(self) -> type[Sum]:
        return RowSum

    def test_each_row_has_its_output(self, predictor: Predictor) -> None:
        async def use() -> None:
            assert tuple(await predictor.infer(self.ROWS, a_request())) == self.SUMS
            assert tuple(await predictor.outputs(self.ROWS, a_request())) == self.SUMS

        asyncio.run(use())

    def test_fewer_rows_are_known_one_by_one(self, predictor: Predictor) -> None:
        async def use() -> None:
            await predictor.infer(self.ROWS[: BLOCK_ROWS - 1], a_request())
            again = a_request()
            await predictor.infer(self.ROWS[4:5], again)
            assert again.cache_outcome == "hit"

        asyncio.run(use())

    def test_the_cache_keeps_and_tells_of_blocks(self, predictor: Predictor, clock: Clock) -> None:
        first, again, changed = a_request(), a_request(), a_request()
        other = self.ROWS.copy()
        other[0] = 0, 1

        async def use() -> None:
            await predictor.infer(self.ROWS, first)
            clock.now += 5
            assert tuple(await predictor.infer(self.ROWS, again)) == self.SUMS
            assert tuple(await predictor.infer(other, changed)) == (1.0, *self.SUMS[1:])

        asyncio.run(use())
        # Rows repeat after ten, so blocks of three repeat after ten blocks; the last block has two rows.
        assert isinstance(predictor.cache, PredictionCache)
        assert len(predictor.cache.memory.entries) == 10 + 1 + 1
        assert (first.cache_outcome, again.cache_outcome, changed.cache_outcome) == ("miss", "hit", "partial")
        assert (changed.misses, again.age) == (1, 5)

    def test_a_block_of_one_row_is_not_taken_for_that_row(self, predictor: Predictor) -> None:
        distinct = np.arange(2 * BLOCK_ROWS).reshape(-1, 2) % 5  # 85 blocks of three rows and one of a single row

        async def use() -> None:
            request = a_request()
            expected = distinct.sum(1).tolist()
            assert (await predictor.infer(distinct, a_request())).tolist() == expected
            assert (await predictor.infer(distinct[-1:], request)).tolist() == expected[-1:]
            assert request.cache_outcome == "miss"
            assert (await predictor.infer(distinct, a_request())).tolist() == expected

        asyncio.run(use())

    def test_equal_blocks_of_concurrent_requests_are_computed_once(self, predictor: Predictor, model: Sum) -> None:
        async def use() -> None:
            await busy_with_a_row(predictor.batcher, model)
            asking = [asyncio.create_task(predictor.infer(self.ROWS, a_request())) for _ in range(2)]
            await until(
                lambda: bool(predictor.in_flight) and all(job.waiters == 2 for job in predictor.in_flight.values())
            )
            model.gate.set()
            assert [tuple(output) for output in await asyncio.gather(*asking)] == [self.SUMS] * 2

        asyncio.run(use())
        assert len(model.seen) == 1 + 10 + 1
        assert not predictor.in_flight

    def test_blocks_that_nobody_waits_for_are_not_computed(self, predictor: Predictor, model: Sum) -> None:
        abandoned = {"model": "sum", "version": "1", "reason": "abandoned"}
        before = sample("tiffin_dropped_items_total", **abandoned)

        async def use() -> None:
            await busy_with_a_row(predictor.batcher, model)
            asking = asyncio.create_task(predictor.infer(self.ROWS, a_request()))
            await until(lambda: bool(predictor.in_flight))
            asking.cancel()
            await asyncio.wait([asking])
            model.gate.set()
            await predictor.infer(self.ROWS[:1], a_request())
            await until(
                lambda: sample("tiffin_dropped_items_total", **abandoned) == before + 10 * 3 + 2
            )  # equal blocks count once

        asyncio.run(use())
        assert len(model.seen) == 2

    def test_a_bad_row_fails_the_request(self, predictor: Predictor) -> None:
        bad = self.ROWS.copy()
        bad[100] = -1, -1

        async def use() -> None:
            with pytest.raises(InvalidInputError, match="negative"):
                await predictor.infer(bad, a_request())
            outputs = await predictor.outputs(bad, a_request())
            assert [isinstance(output, InvalidInputError) for output in outputs] == [n // 3 == 33 for n in range(257)]

        asyncio.run(use())
