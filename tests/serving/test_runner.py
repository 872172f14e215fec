"""The runner, on a graph that looks numbers up in a table and adds them up."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.model import Array, InvalidInputError, Model
from serving.inference.padding import batches, stack
from serving.inference.queue import Job
from serving.runner import ROUND_BATCHES, OverloadedError, Runner

LIMIT_SECONDS = 60.0
TABLE = 10
MISFIT = [TABLE]  # beyond the end of the table: the session fails
BROKEN = [1000]  # preprocessing fails


class Sum(Model[list[int]]):
    """Adds up a list of numbers below ten; refuses negative ones. While `gate` is shut, it is busy."""

    max_batch = 3

    def __init__(self, folder: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[list[int]] = []

    def key(self, item: list[int]) -> bytes:
        return repr(item).encode()

    def preprocess(self, item: list[int]) -> dict[str, Array]:
        self.seen.append(item)
        self.gate.wait(LIMIT_SECONDS)
        if item == BROKEN:
            raise RuntimeError("broken")
        if min(item) < 0:
            raise InvalidInputError("negative", ("items",), "negative")
        return {"x": np.array(item, dtype=np.int64)}


class WatchedRunner(Runner):
    """Notes which items it computes together."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.computed: list[list[list[int]]] = []
        self.sessions: set[Any] = set()

    def infer(self, batch: list[Job], parallel: int = 1) -> None:
        self.computed.append([job.item for job in batch])
        self.sessions.add(self.session if parallel == 1 else self.single)
        super().infer(batch, parallel)


def save_sum(folder: Path) -> Path:
    """The graph of `Sum`."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["values"]),
            helper.make_node("ReduceSum", ["values", "axes"], ["y"], keepdims=0),
        ],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None, None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
        [
            numpy_helper.from_array(np.arange(TABLE, dtype=np.float32), "table"),
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
        ],
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


async def until(condition: Callable[[], bool]) -> None:
    """Return once it holds."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def busy(runner: Runner, model: Sum) -> asyncio.Future[Any]:
    """Have the runner compute an item for as long as the gate is shut; the future of that item."""
    model.gate.clear()
    (job,) = runner.submit([[9]], soon())
    await until(lambda: model.seen == [[9]])
    return job.future


def soon() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + 6 * LIMIT_SECONDS


@pytest.fixture
def model(tmp_path: Path) -> Sum:
    return Sum(tmp_path)


@pytest.fixture
def make_runner(model: Sum, tmp_path: Path) -> Iterator[Callable[..., WatchedRunner]]:
    made: list[WatchedRunner] = []

    def make(threads: int = 1, **settings: Any) -> WatchedRunner:
        made.append(WatchedRunner(model, save_sum(tmp_path), "sum", threads, **settings))
        return made[-1]

    yield make
    model.gate.set()
    for runner in made:
        runner.close()


@pytest.fixture
def runner(make_runner: Callable[..., WatchedRunner]) -> WatchedRunner:
    return make_runner()


@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_stand_in_the_items_order(make_runner: Callable[..., WatchedRunner], threads: int) -> None:
    items = [[1] * n for n in (5, 1, 4, 2, 3, 7, 6)]
    assert asyncio.run(make_runner(threads).run(items)) == [5, 1, 4, 2, 3, 7, 6]


def test_a_bad_item_fails_alone(runner: Runner) -> None:
    first, bad, last = asyncio.run(runner.run([[1, 2], [-1], [4]]))
    assert [first, last] == [3, 4]
    assert isinstance(bad, InvalidInputError)


@pytest.mark.parametrize(("item", "error"), [(BROKEN, "broken"), (MISFIT, "out of data bounds")])
def test_an_item_that_breaks_its_batch_fails_alone(runner: Runner, item: list[int], error: str) -> None:
    async def use() -> None:
        first, broken, last = runner.submit([[1, 2], item, [4]], soon())
        assert await first.future == 3
        assert await last.future == 4
        with pytest.raises(Exception, match=error):
            await broken.future

    asyncio.run(use())


def test_items_that_come_while_it_is_busy_go_together(runner: WatchedRunner, model: Sum) -> None:
    async def use() -> None:
        before = await busy(runner, model)
        jobs = [job for n in range(1, 6) for job in runner.submit([[1] * n], soon())]
        model.gate.set()
        assert await before == 9
        assert [await job.future for job in jobs] == [1, 2, 3, 4, 5]

    asyncio.run(use())
    assert [len(batch) for batch in runner.computed] == [1, 3, 2]


def test_a_long_item_does_not_wait_for_all_that_come_after_it(runner: WatchedRunner, model: Sum) -> None:
    fills_a_round = ROUND_BATCHES * model.max_batch

    async def use() -> None:
        before = await busy(runner, model)
        jobs = runner.submit([[1, 1], *[[n % 5] for n in range(2 * fills_a_round)]], soon())
        model.gate.set()
        await asyncio.gather(before, *(job.future for job in jobs))

    asyncio.run(use())
    assert [1, 1] in [item for batch in runner.computed for item in batch][: 1 + fills_a_round]


def test_long_batches_run_side_by_side(make_runner: Callable[..., WatchedRunner]) -> None:
    runner = make_runner(threads=2)
    runner.batch_seconds = [1.0, 1.0, 1.0]
    assert asyncio.run(runner.run([[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sorted(len(batch) for batch in runner.computed) == [2, 2, 2, 2]
    assert runner.sessions == {runner.single}


def test_short_batches_run_one_after_the_other(make_runner: Callable[..., WatchedRunner]) -> None:
    runner = make_runner(threads=2)
    runner.batch_seconds = [1e-6, 1e-6, 1e-6]
    assert asyncio.run(runner.run([[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [len(batch) for batch in runner.computed] == [3, 3, 2]
    assert runner.sessions == {runner.session}


def test_what_waits_goes_on_while_another_batch_is_computed(
    make_runner: Callable[..., WatchedRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner(threads=2)
    runner.batch_seconds = [1.0, 1.0, 1.0]
    release = threading.Event()
    infer = runner.infer

    def held_up(batch: list[Job], parallel: int = 1) -> None:
        if [9] in [job.item for job in batch]:
            release.wait(LIMIT_SECONDS)
        infer(batch, parallel)

    monkeypatch.setattr(runner, "infer", held_up)

    async def use() -> None:
        long, short = runner.submit([[9], [1]], soon())
        assert await short.future == 1
        assert await runner.run([[2], [3]]) == [2, 3]
        assert not long.future.done()
        release.set()
        assert await long.future == 9

    asyncio.run(use())


def test_batches_can_be_limited_otherwise_than_the_model_says(make_runner: Callable[..., WatchedRunner]) -> None:
    runner = make_runner(max_batch=2)
    assert asyncio.run(runner.run([[1] * n for n in range(1, 6)])) == [1, 2, 3, 4, 5]
    assert max(len(batch) for batch in runner.computed) == 2


def test_inference_runs_behind_what_answers_requests(runner: WatchedRunner) -> None:
    asyncio.run(runner.run([[1]]))
    assert runner.thread.native_id is not None
    if sys.platform == "linux":  # elsewhere threads have no priorities of their own
        assert os.getpriority(os.PRIO_PROCESS, runner.thread.native_id) > os.getpriority(os.PRIO_PROCESS, 0)


def test_a_batch_that_is_not_full_awaits_more_items(make_runner: Callable[..., WatchedRunner], model: Sum) -> None:
    runner = make_runner(linger_seconds=LIMIT_SECONDS)

    async def use() -> None:
        before = await busy(runner, model)
        runner.batch_seconds = [0.0, 1.0, 1.0]
        jobs = runner.submit([[1], [2]], soon())
        model.gate.set()
        await before
        jobs += runner.submit([[3]], soon())
        assert [await job.future for job in jobs] == [1, 2, 3]

    asyncio.run(use())
    assert runner.computed == [[[9]], [[1], [2], [3]]]


def test_an_abandoned_item_is_not_computed(runner: WatchedRunner, model: Sum) -> None:
    async def use() -> None:
        await busy(runner, model)
        abandoned, wanted = runner.submit([[1], [2]], soon())
        abandoned.future.cancel()
        model.gate.set()
        assert await wanted.future == 2

    asyncio.run(use())
    assert model.seen == [[9], [2]]
    assert runner.unfinished == 0


def test_an_item_that_is_abandoned_in_preprocessing_is_not_inferred(runner: WatchedRunner, model: Sum) -> None:
    async def use() -> None:
        abandoned = await busy(runner, model)
        abandoned.cancel()
        model.gate.set()
        await runner.run([[2]])

    asyncio.run(use())
    assert [batch for batch in runner.computed if batch] == [[[2]]]


def test_an_item_past_its_deadline_is_not_computed(runner: WatchedRunner, model: Sum) -> None:
    async def use() -> None:
        await busy(runner, model)
        (expired,) = runner.submit([[1]], time.monotonic() + 0.01)
        await until(lambda: time.monotonic() > expired.deadline)
        model.gate.set()
        with pytest.raises(TimeoutError):
            await expired.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert runner.unfinished == 0


@pytest.mark.parametrize(("queue_seconds", "left_seconds"), [(2.0, 60.0), (60.0, 2.0)])
def test_items_that_would_wait_too_long_are_refused(
    make_runner: Callable[..., WatchedRunner], model: Sum, queue_seconds: float, left_seconds: float
) -> None:
    runner = make_runner(queue_seconds=queue_seconds)

    async def use() -> None:
        await busy(runner, model)
        runner.batch_seconds = [0.0, 1.0, 3.0]
        runner.submit([[1], [2]], soon())
        with pytest.raises(OverloadedError):
            runner.submit([[3]], time.monotonic() + left_seconds)

    asyncio.run(use())


def test_a_refusal_says_when_to_come_again(make_runner: Callable[..., WatchedRunner], model: Sum) -> None:
    runner = make_runner(queue_seconds=2.0)

    async def use() -> float:
        await busy(runner, model)
        runner.batch_seconds = [0.0, 1.0, 3.0]
        runner.submit([[1]] * 6, soon())
        with pytest.raises(OverloadedError) as refusal:
            runner.submit([[3]], soon())
        return refusal.value.retry_after_seconds

    assert asyncio.run(use()) == 5.0  # seven seconds of work, of which two may remain


def test_items_are_refused_when_too_many_wait(make_runner: Callable[..., WatchedRunner], model: Sum) -> None:
    runner = make_runner(queue_items=2)

    async def use() -> None:
        await busy(runner, model)
        runner.submit([[1], [2]], soon())
        with pytest.raises(OverloadedError):
            runner.submit([[3]], soon())

    asyncio.run(use())


def test_an_idle_runner_takes_many_items_at_once(make_runner: Callable[..., WatchedRunner]) -> None:
    runner = make_runner(queue_items=2, queue_seconds=1.0)
    runner.batch_seconds = [0.0, 1.0, 3.0]
    assert asyncio.run(runner.run([[1]] * 10)) == [1] * 10


def test_closing_ends_the_thread(runner: Runner) -> None:
    asyncio.run(runner.run([[1]]))
    runner.close()
    assert not runner.thread.is_alive()


def test_batches_are_sorted_by_length_and_bounded() -> None:
    async def jobs() -> list[Job]:
        made = [Job(n, soon(), asyncio.get_running_loop()) for n in (9, 1, 8, 2, 3)]
        for job in made:
            job.length = job.item
        return made

    assert [[job.item for job in batch] for batch in batches(asyncio.run(jobs()), 2)] == [[1, 2], [3, 8], [9]]


def test_shorter_items_are_padded_with_zeros() -> None:
    stacked = stack([{"x": np.array([1, 2, 3])}, {"x": np.array([4])}])
    assert stacked["x"].tolist() == [[1, 2, 3], [4, 0, 0]]


def test_items_of_equal_shape_are_stacked() -> None:
    assert stack([{"x": np.ones((3, 2))}, {"x": np.zeros((3, 2))}])["x"].shape == (2, 3, 2)
