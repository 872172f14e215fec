"""The batcher, on a graph that looks numbers up in a table and adds them up."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.model import Array, InvalidInputError, Model
from serving.inference.batcher import ROUND_BATCHES, Batcher
from serving.inference.bisection import MAX_RETRIES
from serving.inference.errors import ModelFaultError, OverloadedError
from serving.inference.padding import batches, stack
from serving.inference.priority import LOWER_BY
from serving.inference.queue import Job, Output
from serving.inference.registry import ModelId
from tests.support.clocks import wait_until
from tests.support.metrics import sample

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


class RowSum(Sum):
    """Adds up rows of an array, one or a block of them at a time."""

    vectorized = True

    def key(self, item: Any) -> bytes:
        return bytes(item.tobytes())

    def preprocess(self, item: Any) -> dict[str, Array]:
        super().preprocess(item.ravel().tolist())
        return {"x": item}


SUM = ModelId("sum", "1")


class WatchedBatcher(Batcher):
    """Notes which items it computes together."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.computed: list[list[list[int]]] = []
        self.sessions: set[Any] = set()

    def infer(self, batch: list[Job], parallel: int = 1) -> None:
        self.computed.append([job.item for job in batch])
        self.sessions.add(self.session if parallel == 1 else self.single)
        super().infer(batch, parallel)


def save_sum(folder: Path, outputs: Sequence[str] = ("y",), axis: int = 1) -> Path:
    """The graph of `Sum`; or one that gives something else, or adds up along another axis."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["values"]),
            helper.make_node("ReduceSum", ["values", "axes"], ["y"], keepdims=0),
        ],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [None, None])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [
            numpy_helper.from_array(np.arange(TABLE, dtype=np.float32), "table"),
            helper.make_tensor("axes", TensorProto.INT64, [1], [axis]),
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


async def busy(batcher: Batcher, model: Sum) -> asyncio.Future[Any]:
    """Have the batcher compute an item for as long as the gate is shut; the future of that item."""
    model.gate.clear()
    (job,) = submit(batcher, [[9]], soon())
    await until(lambda: model.seen == [[9]])
    return job.future


def submit(batcher: Batcher, items: Collection[Any], deadline: float) -> list[Job]:
    """Put items into the queue; return the job of each."""
    jobs = [Job(item, deadline, asyncio.get_running_loop()) for item in items]
    batcher.enqueue(jobs, deadline)
    return jobs


async def run(batcher: Batcher, items: Collection[Any]) -> list[Output]:
    """Return the graph's output for each item, or why that item has none."""
    return [await job.future for job in submit(batcher, items, soon())]


def soon() -> float:
    """A deadline that no test reaches."""
    return time.monotonic() + 6 * LIMIT_SECONDS


@pytest.fixture
def model(tmp_path: Path) -> Sum:
    return Sum(tmp_path)


@pytest.fixture
def make_batcher(model: Sum, tmp_path: Path) -> Iterator[Callable[..., WatchedBatcher]]:
    made: list[WatchedBatcher] = []

    def make(threads: int = 1, graph: Path | None = None, **settings: Any) -> WatchedBatcher:
        made.append(WatchedBatcher(model, graph or save_sum(tmp_path), SUM, threads, **settings))
        return made[-1]

    yield make
    model.gate.set()
    for batcher in made:
        batcher.close()


@pytest.fixture
def batcher(make_batcher: Callable[..., WatchedBatcher]) -> WatchedBatcher:
    return make_batcher()


@pytest.mark.parametrize("threads", [1, 3])
def test_outputs_stand_in_the_items_order(make_batcher: Callable[..., WatchedBatcher], threads: int) -> None:
    items = [[1] * n for n in (5, 1, 4, 2, 3, 7, 6)]
    assert asyncio.run(run(make_batcher(threads), items)) == [5, 1, 4, 2, 3, 7, 6]


def test_a_bad_item_fails_alone(batcher: Batcher) -> None:
    first, bad, last = asyncio.run(run(batcher, [[1, 2], [-1], [4]]))
    assert [first, last] == [3, 4]
    assert isinstance(bad, InvalidInputError)


@pytest.mark.parametrize(("item", "error"), [(BROKEN, "broken"), (MISFIT, "out of data bounds")])
def test_an_item_that_breaks_its_batch_fails_alone(batcher: Batcher, item: list[int], error: str) -> None:
    async def use() -> None:
        first, broken, last = submit(batcher, [[1, 2], item, [4]], soon())
        assert await first.future == 3
        assert await last.future == 4
        with pytest.raises(Exception, match=error):
            await broken.future

    asyncio.run(use())


def test_items_that_come_while_it_is_busy_go_together(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        before = await busy(batcher, model)
        jobs = [job for n in range(1, 6) for job in submit(batcher, [[1] * n], soon())]
        model.gate.set()
        assert await before == 9
        assert [await job.future for job in jobs] == [1, 2, 3, 4, 5]

    asyncio.run(use())
    assert [len(batch) for batch in batcher.computed] == [1, 3, 2]


def test_a_long_item_does_not_wait_for_all_that_come_after_it(batcher: WatchedBatcher, model: Sum) -> None:
    fills_a_round = ROUND_BATCHES * model.max_batch

    async def use() -> None:
        before = await busy(batcher, model)
        jobs = submit(batcher, [[1, 1], *[[n % 5] for n in range(2 * fills_a_round)]], soon())
        model.gate.set()
        await asyncio.gather(before, *(job.future for job in jobs))

    asyncio.run(use())
    assert [1, 1] in [item for batch in batcher.computed for item in batch][: 1 + fills_a_round]


def test_long_batches_run_side_by_side(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(threads=2)
    batcher.pace.batch_seconds = [1.0, 1.0, 1.0]
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sorted(len(batch) for batch in batcher.computed) == [2, 2, 2, 2]
    assert batcher.sessions == {batcher.single}


def test_short_batches_run_one_after_the_other(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(threads=2)
    batcher.pace.batch_seconds = [1e-6, 1e-6, 1e-6]
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 9)])) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [len(batch) for batch in batcher.computed] == [3, 3, 2]
    assert batcher.sessions == {batcher.session}


def test_what_waits_goes_on_while_another_batch_is_computed(
    make_batcher: Callable[..., WatchedBatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = make_batcher(threads=2)
    batcher.pace.batch_seconds = [1.0, 1.0, 1.0]
    release = threading.Event()
    infer = batcher.infer

    def held_up(batch: list[Job], parallel: int = 1) -> None:
        if [9] in [job.item for job in batch]:
            release.wait(LIMIT_SECONDS)
        infer(batch, parallel)

    monkeypatch.setattr(batcher, "infer", held_up)

    async def use() -> None:
        long, short = submit(batcher, [[9], [1]], soon())
        assert await short.future == 1
        assert await run(batcher, [[2], [3]]) == [2, 3]
        assert not long.future.done()
        release.set()
        assert await long.future == 9

    asyncio.run(use())


def test_batches_can_be_limited_otherwise_than_the_model_says(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(max_batch=2)
    assert asyncio.run(run(batcher, [[1] * n for n in range(1, 6)])) == [1, 2, 3, 4, 5]
    assert max(len(batch) for batch in batcher.computed) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priorities of their own")
def test_inference_runs_ten_steps_behind_what_answers_requests(make_batcher: Callable[..., WatchedBatcher]) -> None:
    before = nice_values()
    batcher = make_batcher(threads=3)
    asyncio.run(run(batcher, [[1]] * 8))
    all_at_once = threading.Barrier(3, timeout=LIMIT_SECONDS)
    list(batcher.pool.map(lambda _: all_at_once.wait(), range(3)))
    threads = nice_values().items() - before.items()
    assert len(threads) >= 6  # the batcher's, the pool's and the session's
    assert {nice for _, nice in threads} == {os.getpriority(os.PRIO_PROCESS, 0) + LOWER_BY}


def nice_values() -> dict[str, int]:
    """The nice value of each thread of this process, by its id."""
    return {
        path.parent.name: int(path.read_text(encoding="utf-8").rpartition(")")[2].split()[16])
        for path in Path("/proc/self/task").glob("*/stat")
    }


def test_a_batch_that_is_not_full_awaits_more_items(make_batcher: Callable[..., WatchedBatcher], model: Sum) -> None:
    batcher = make_batcher(linger_seconds=LIMIT_SECONDS)

    async def use() -> None:
        before = await busy(batcher, model)
        batcher.pace.batch_seconds = [0.0, 1.0, 1.0]
        jobs = submit(batcher, [[1], [2]], soon())
        model.gate.set()
        await before
        jobs += submit(batcher, [[3]], soon())
        assert [await job.future for job in jobs] == [1, 2, 3]

    asyncio.run(use())
    assert batcher.computed == [[[9]], [[1], [2], [3]]]


def test_an_abandoned_item_is_not_computed(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        await busy(batcher, model)
        abandoned, wanted = submit(batcher, [[1], [2]], soon())
        abandoned.future.cancel()
        model.gate.set()
        assert await wanted.future == 2

    asyncio.run(use())
    assert model.seen == [[9], [2]]
    assert batcher.unfinished == 0


def test_an_item_that_is_abandoned_in_preprocessing_is_not_inferred(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        abandoned = await busy(batcher, model)
        abandoned.cancel()
        model.gate.set()
        await run(batcher, [[2]])

    asyncio.run(use())
    assert [batch for batch in batcher.computed if batch] == [[[2]]]


def test_a_refused_item_is_let_go_at_once(batcher: WatchedBatcher) -> None:
    class Item(list[int]):
        """A list to which there may be weak references."""

    async def use() -> weakref.ref[Item]:
        item = Item([-1])
        (outcome,) = await run(batcher, [item])
        assert isinstance(outcome, InvalidInputError)
        assert (outcome.__traceback__, outcome.__context__) == (None, None)
        return weakref.ref(item)

    gc.disable()  # what refers to itself would stay
    try:
        kept = asyncio.run(use())
        batcher.model.seen.clear()  # type: ignore[attr-defined]
        batcher.computed.clear()
        wait_until(lambda: kept() is None, LIMIT_SECONDS)
    finally:
        gc.enable()


def test_what_is_abandoned_is_not_prepared_after_a_slow_item(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        model.gate.clear()
        first, second, third = submit(batcher, [[9], [1], [2]], soon())
        await until(lambda: model.seen == [[9]])
        second.future.cancel()
        third.deadline = time.monotonic()
        model.gate.set()
        assert await first.future == 9
        with pytest.raises(TimeoutError):
            await third.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert batcher.unfinished == 0


def test_an_item_past_its_deadline_is_not_computed(batcher: WatchedBatcher, model: Sum) -> None:
    async def use() -> None:
        await busy(batcher, model)
        (expired,) = submit(batcher, [[1]], time.monotonic() + 0.01)
        await until(lambda: time.monotonic() > expired.deadline)
        model.gate.set()
        with pytest.raises(TimeoutError):
            await expired.future

    asyncio.run(use())
    assert model.seen == [[9]]
    assert batcher.unfinished == 0


@pytest.mark.parametrize(("queue_seconds", "left_seconds"), [(2.0, 60.0), (60.0, 2.0)])
def test_items_that_would_wait_too_long_are_refused(
    make_batcher: Callable[..., WatchedBatcher], model: Sum, queue_seconds: float, left_seconds: float
) -> None:
    batcher = make_batcher(queue_seconds=queue_seconds)

    async def use() -> None:
        await busy(batcher, model)
        batcher.pace.batch_seconds = [0.0, 1.0, 3.0]
        submit(batcher, [[1], [2]], soon())
        with pytest.raises(OverloadedError):
            submit(batcher, [[3]], time.monotonic() + left_seconds)

    asyncio.run(use())


def test_a_refusal_says_when_to_come_again(make_batcher: Callable[..., WatchedBatcher], model: Sum) -> None:
    batcher = make_batcher(queue_seconds=2.0)

    async def use() -> float:
        await busy(batcher, model)
        batcher.pace.batch_seconds = [0.0, 1.0, 3.0]
        submit(batcher, [[1]] * 6, soon())
        with pytest.raises(OverloadedError) as refusal:
            submit(batcher, [[3]], soon())
        return refusal.value.retry_after_seconds

    assert asyncio.run(use()) == 5.0  # seven seconds of work, of which two may remain


def test_items_are_refused_when_too_many_wait(make_batcher: Callable[..., WatchedBatcher], model: Sum) -> None:
    batcher = make_batcher(queue_items=2)

    async def use() -> None:
        await busy(batcher, model)
        submit(batcher, [[1], [2]], soon())
        with pytest.raises(OverloadedError):
            submit(batcher, [[3]], soon())

    asyncio.run(use())


def test_an_idle_runner_takes_many_items_at_once(make_batcher: Callable[..., WatchedBatcher]) -> None:
    batcher = make_batcher(queue_items=2, queue_seconds=1.0)
    batcher.pace.batch_seconds = [0.0, 1.0, 3.0]
    assert asyncio.run(run(batcher, [[1]] * 10)) == [1] * 10


def test_closing_ends_the_thread(batcher: Batcher) -> None:
    asyncio.run(run(batcher, [[1]]))
    batcher.close()
    assert not batcher.thread.is_alive()


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


def rows(*values: int) -> Array:
    """A block of rows of two numbers, whose sums are the values."""
    return np.array([[value // 2, value - value // 2] for value in values], dtype=np.int64)


def a_block(*values: int) -> Job:
    """A job for such a block."""
    return Job(rows(*values), soon(), asyncio.get_running_loop(), block=True)


async def busy_with_a_row(batcher: Batcher, model: Sum) -> Job:
    """Have the batcher compute a row for as long as the gate is shut; its job."""
    model.gate.clear()
    (job,) = submit(batcher, [rows(9)[0]], soon())
    await until(lambda: len(model.seen) == 1)
    return job


class TestBlocks:
    """Blocks of rows."""

    @pytest.fixture
    def model(self, tmp_path: Path) -> Sum:
        return RowSum(tmp_path)

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("batch_seconds", [1e-6, 1.0])
    def test_blocks_and_items_get_their_outputs(
        self, make_batcher: Callable[..., WatchedBatcher], threads: int, batch_seconds: float
    ) -> None:
        batcher = make_batcher(threads)
        batcher.pace.batch_seconds = [batch_seconds] * 3

        async def use() -> list[Any]:
            jobs = [a_block(1, 2, 3), *submit(batcher, [rows(4)[0]], soon()), a_block(5), a_block(6, 7)]
            batcher.enqueue([job for job in jobs if job.block], soon())
            return [np.asarray(await job.future).tolist() for job in jobs]

        assert asyncio.run(use()) == [[1, 2, 3], 4, [5], [6, 7]]
        assert batcher.unfinished == 0

    def test_small_blocks_share_a_batch(self, batcher: WatchedBatcher, model: Sum) -> None:
        async def use() -> None:
            await busy_with_a_row(batcher, model)
            jobs = [a_block(1), a_block(2, 3), a_block(4, 5)]
            batcher.enqueue(jobs, soon())
            model.gate.set()
            assert [np.asarray(await job.future).tolist() for job in jobs] == [[1], [2, 3], [4, 5]]

        asyncio.run(use())
        assert [sum(map(len, batch)) for batch in batcher.computed[1:]] == [3, 2]

    def test_an_item_waits_for_one_batch_of_blocks_only(self, batcher: WatchedBatcher, model: Sum) -> None:
        async def use() -> None:
            await busy_with_a_row(batcher, model)
            blocks = [a_block(n, n, n) for n in range(8)]
            batcher.enqueue(blocks, soon())
            (item,) = submit(batcher, [rows(9)[0]], soon())
            model.gate.set()
            assert await item.future == 9
            await asyncio.wait([job.future for job in blocks])

        asyncio.run(use())
        assert [len(item) for (item,) in batcher.computed] == [2, 2] + 8 * [3]

    def test_the_queue_counts_rows(self, batcher: WatchedBatcher, model: Sum) -> None:
        before = sample("tiffin_batch_items_sum", model="sum", version="1")

        async def use() -> None:
            await busy_with_a_row(batcher, model)
            batcher.enqueue([a_block(1, 2, 3), a_block(4, 5)], soon())
            jobs = [*batcher.queue.blocks]
            assert batcher.unfinished == 6
            assert sample("tiffin_queue_items", model="sum", version="1") == 5
            model.gate.set()
            await asyncio.wait([job.future for job in jobs])

        asyncio.run(use())
        assert batcher.unfinished == 0
        assert sample("tiffin_queue_items", model="sum", version="1") == 0
        assert sample("tiffin_batch_items_sum", model="sum", version="1") == before + 6

    @pytest.mark.parametrize("reason", ["abandoned", "expired"])
    def test_a_block_that_nobody_can_have_is_not_computed(
        self, batcher: WatchedBatcher, model: Sum, reason: str
    ) -> None:
        before = sample("tiffin_dropped_items_total", model="sum", version="1", reason=reason)

        async def use() -> None:
            await busy_with_a_row(batcher, model)
            dropped = a_block(1, 2, 3)
            batcher.enqueue([dropped, wanted := a_block(4)], soon())
            if reason == "expired":
                dropped.deadline = time.monotonic()
            else:
                dropped.future.cancel()
            model.gate.set()
            assert await wanted.future == [4]
            await asyncio.wait([dropped.future])

        asyncio.run(use())
        assert len(model.seen) == 2
        assert batcher.unfinished == 0
        assert sample("tiffin_dropped_items_total", model="sum", version="1", reason=reason) == before + 3

    def test_blocks_are_refused_when_too_many_rows_wait(
        self, make_batcher: Callable[..., WatchedBatcher], model: Sum
    ) -> None:
        batcher = make_batcher(queue_items=3)
        before = sample("tiffin_dropped_items_total", model="sum", version="1", reason="refused")

        async def use() -> None:
            await busy_with_a_row(batcher, model)
            batcher.enqueue([a_block(1, 2, 3)], soon())
            with pytest.raises(OverloadedError):
                batcher.enqueue([a_block(1, 2)], soon())

        asyncio.run(use())
        assert sample("tiffin_dropped_items_total", model="sum", version="1", reason="refused") == before + 2

    def test_items_are_taken_however_many_rows_wait_in_blocks(
        self, make_batcher: Callable[..., WatchedBatcher], model: Sum
    ) -> None:
        batcher = make_batcher(queue_items=3, queue_seconds=2.5)

        async def use() -> None:
            await busy_with_a_row(batcher, model)
            batcher.pace.batch_seconds = [0.0, 1.0, 1.0]
            batcher.enqueue([a_block(n, n, n) for n in range(9)], soon())
            (item,) = submit(batcher, [rows(8)[0]], soon())
            model.gate.set()
            assert await item.future == 8

        asyncio.run(use())

    def test_a_block_with_a_bad_row_fails_and_others_do_not(self, batcher: Batcher, model: Sum) -> None:
        async def use() -> None:
            await busy_with_a_row(batcher, model)
            good, bad = a_block(1), a_block(2, 2 * TABLE)
            batcher.enqueue([good, bad], soon())
            model.gate.set()
            assert await good.future == [1]
            with pytest.raises(Exception, match="out of data bounds"):
                await bad.future

        asyncio.run(use())
        assert batcher.unfinished == 0


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
