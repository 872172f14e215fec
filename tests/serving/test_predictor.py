"""The predictor: what is known is not computed, and what is being computed is not computed twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import models
from models.model import Array, InvalidInputError
from serving.cache import MemoryCache, PredictionCache
from serving.context import RequestContext
from serving.predictor import Predictor
from tests.serving.test_cache import Clock
from tests.serving.test_runner import BROKEN, Sum, busy, save_sum, soon, until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def predictor(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    monkeypatch.setattr(models, "find", lambda name: Sum)
    save_sum(tmp_path)
    stored: Any = SimpleNamespace(path=str(tmp_path), tag="sum:1", info=SimpleNamespace(metadata={"labels": []}))
    made = Predictor("sum", stored, PredictionCache(MemoryCache("test", 10_000, 180, clock)), threads=1)
    yield made
    made.model.gate.set()  # type: ignore[attr-defined]
    made.runner.close()


@pytest.fixture
def model(predictor: Predictor) -> Sum:
    assert isinstance(predictor.model, Sum)
    return predictor.model


def a_request(**settings: Any) -> RequestContext:
    return RequestContext("test", **{"deadline": soon(), **settings})


Asking = asyncio.Task[list[Array | InvalidInputError]]


async def ask_while_busy(predictor: Predictor, *requests: RequestContext) -> list[Asking]:
    """Ask for [1] once for each request while another item is computed, which lasts until the gate is opened."""
    assert isinstance(predictor.model, Sum)
    await busy(predictor.runner, predictor.model)
    asking = [asyncio.create_task(predictor.outputs([[1]], request)) for request in requests]
    await until(lambda: sum(job.waiters for job in predictor.flights.values()) == len(requests))
    return asking


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
        asking = await ask_while_busy(predictor, a_request(), a_request())
        model.gate.set()
        assert await asyncio.gather(*asking) == [[1], [1]]

    asyncio.run(use())
    assert model.seen == [[9], [1]]
    assert not predictor.flights


def test_what_is_awaited_with_others_is_a_miss(predictor: Predictor, model: Sum) -> None:
    request = a_request()

    async def use() -> None:
        asking = await ask_while_busy(predictor, a_request(), request)
        model.gate.set()
        await asyncio.gather(*asking)

    asyncio.run(use())
    assert (request.hits, request.misses, request.cache_outcome) == (0, 1, "miss")


def test_one_who_leaves_does_not_take_the_output_from_another(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        first, second = await ask_while_busy(predictor, a_request(), a_request())
        first.cancel()
        await asyncio.wait([first])
        model.gate.set()
        assert await second == [1]

    asyncio.run(use())


def test_what_nobody_waits_for_is_not_computed(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        asking = await ask_while_busy(predictor, a_request(), a_request())
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        model.gate.set()
        await predictor.outputs([[2]], a_request())

    asyncio.run(use())
    assert model.seen == [[9], [2]]
    assert not predictor.flights


def test_one_who_comes_as_the_last_leaves_is_answered(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        (leaving,) = await ask_while_busy(predictor, a_request())
        leaving.cancel()
        coming = asyncio.create_task(predictor.outputs([[1]], a_request()))  # runs right after
        model.gate.set()
        assert await coming == [1]

    asyncio.run(use())


def test_one_with_more_time_prolongs_what_another_asked_for(predictor: Predictor, model: Sum) -> None:
    async def use() -> None:
        hurried = a_request(deadline=time.monotonic() + 2.0)  # in which both ask, on a busy machine too
        asking = await ask_while_busy(predictor, hurried, a_request())
        await until(lambda: time.monotonic() > hurried.deadline)
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
        asking = await ask_while_busy(predictor, a_request())
        asking.append(asyncio.create_task(predictor.outputs([[1]], a_request(no_cache=True))))
        await until(lambda: predictor.runner.unfinished == 3)
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


def test_infer_stacks_the_outputs(predictor: Predictor) -> None:
    assert asyncio.run(predictor.infer([[1], [2]], a_request())).tolist() == [1, 2]


def test_infer_raises_what_is_wrong_with_an_item(predictor: Predictor) -> None:
    with pytest.raises(InvalidInputError, match="negative"):
        asyncio.run(predictor.infer([[1], [-1]], a_request()))


def test_the_key_of_an_item_depends_on_the_version_of_the_model(
    predictor: Predictor, tmp_path: Path, clock: Clock
) -> None:
    stored: Any = SimpleNamespace(path=str(tmp_path), tag="sum:2", info=SimpleNamespace(metadata={}))
    newer = Predictor("sum", stored, predictor.cache, threads=1)
    assert newer.key([1]) != predictor.key([1])
    newer.runner.close()
