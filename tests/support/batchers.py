"""A model whose graph sums numbers looked up in a table, and sessions that record what its batcher runs."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.model import Array, Column, Columns, InvalidInputError, Model
from serving.inference.batcher import Batcher
from serving.inference.context import Priority, RequestContext
from serving.inference.job import Job, Output
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId
from serving.inference.session import open_session
from tests.support.clocks import Clock

LIMIT_SECONDS = 60.0
LATE = math.inf  # a deadline that never passes
# Inference time per item in a recorded session; a power of two, so that sums are exact.
ITEM_SECONDS = 1 / 128
TABLE = 10
MISFIT = [TABLE]  # out of the range of the table: the session fails
BROKEN = [1000]  # preprocessing fails


class Sum(Model[list[int]]):
    """A model that sums numbers below ten and rejects negative ones; preprocessing blocks until `gate` is set."""

    inputs = (Column("x", list[int]),)
    max_batch = 3

    def __init__(self, folder: Path) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.seen: list[list[int]] = []

    def key(self, item: list[int]) -> bytes:
        return repr(item).encode()

    def columns(self, outputs: Array) -> Columns:
        return {"sum": outputs}

    def preprocess(self, item: list[int]) -> dict[str, Array]:
        self.seen.append(item)
        self.gate.wait(LIMIT_SECONDS)
        if item == BROKEN:
            raise RuntimeError("broken")
        if min(item) < 0:
            raise InvalidInputError("negative", ("items",), "negative")
        return {"x": np.array(item, dtype=np.int64)}


class RowSum(Sum):
    """A vectorized model that sums each row of an array, for one row or a block of rows."""

    vectorized = True

    def key(self, item: Any) -> bytes:
        return bytes(item.tobytes())

    def preprocess(self, item: Any) -> dict[str, Array]:
        super().preprocess(item.ravel().tolist())
        return {"x": item}


SUM = ModelId("sum", "1")


class Run(NamedTuple):
    """One run of a session: its items without padding, the session's thread count, and its start time in seconds."""

    items: list[list[int]]
    threads: int
    started: float


class Sessions:
    """A factory of sessions that record their runs; each run advances the clock by `seconds(items)`.

    `during` is called during each run.
    """

    def __init__(self, graph: Path, clock: Clock) -> None:
        self.graph = graph
        self.clock = clock
        self.runs: list[Run] = []
        self.seconds: Callable[[int], float] = lambda items: items * ITEM_SECONDS
        self.during: Callable[[Run], object] = lambda run: None

    def __call__(self, threads: int) -> RecordedSession:
        return RecordedSession(self, threads)

    @property
    def sizes(self) -> list[int]:
        """The batch size of each run."""
        return [len(run.items) for run in self.runs]

    @property
    def items(self) -> list[list[int]]:
        """The items of all runs, in order."""
        return [item for run in self.runs for item in run.items]


class RecordedSession:
    """An ONNX session that records its runs in `sessions`."""

    def __init__(self, sessions: Sessions, threads: int) -> None:
        self.sessions = sessions
        self.threads = threads
        self.session = open_session(sessions.graph, threads)

    def run(self, names: None, inputs: dict[str, Array]) -> Any:
        """Record the run, advance the clock and run the graph."""
        sessions = self.sessions
        items = [np.trim_zeros(row, "b").tolist() for row in inputs["x"]]
        run = Run(items, self.threads, sessions.clock())
        sessions.runs.append(run)
        sessions.during(run)
        sessions.clock.advance(sessions.seconds(len(items)))
        return self.session.run(names, inputs)


def save_sum(folder: Path, outputs: Sequence[str] = ("y",), axis: int = 1) -> Path:
    """Save the graph of `Sum`, with these outputs and summing along `axis`; return its path."""
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
    """Wait until the condition holds; raise TimeoutError after LIMIT_SECONDS."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.001)


async def warm_up(batcher: Batcher, sessions: Sessions, *sizes: int, item: Any = None) -> None:
    """Run batches of these sizes, of `item` or [1], so that the batcher knows its pace; discard the records."""
    for size in sizes:
        await run(batcher, [[1] if item is None else item] * size)
    sessions.runs.clear()


async def busy(batcher: Batcher, model: Sum, item: Any = None) -> asyncio.Future[Any]:
    """Keep the batcher busy with `item`, or [9], until the gate is set; return the future of its output."""
    model.seen.clear()
    model.gate.clear()
    (job,) = submit(batcher, [[9] if item is None else item])
    await until(lambda: len(model.seen) == 1)
    return job.future


def submit(
    batcher: Batcher, items: Collection[Any], deadline: float = LATE, priority: Priority = Priority.INTERACTIVE
) -> list[Job]:
    """Enqueue items; return the job of each."""
    jobs = [Job(item, deadline, asyncio.get_running_loop(), priority=priority) for item in items]
    batcher.enqueue(jobs, deadline)
    return jobs


def submit_batch_work(batcher: Batcher, items: Collection[Any], deadline: float = LATE) -> list[Job]:
    """Enqueue items as batch work; return the job of each."""
    return submit(batcher, items, deadline, Priority.BATCH)


async def outputs(jobs: Collection[Job]) -> list[Any]:
    """Wait for the jobs; return the output of each."""
    return [np.asarray(output).tolist() for output in await asyncio.gather(*(job.future for job in jobs))]


async def run(batcher: Batcher, items: Collection[Any]) -> list[Output]:
    """Return the output of each item, or the error in its place."""
    return [await job.future for job in submit(batcher, items)]


def has_nothing_to_do(batcher: Batcher) -> bool:
    """Return whether a batcher that knows its pace has no unfinished work."""
    return batcher.expected_wait(Priority.BATCH) == 0


def rows(*values: int) -> Array:
    """Return a block int64 (n, 2) whose rows sum to the values."""
    return np.array([[value // 2, value - value // 2] for value in values], dtype=np.int64)


def a_block(*values: int, priority: Priority = Priority.INTERACTIVE) -> Job:
    """Return a job for the block `rows(*values)`."""
    return Job(rows(*values), LATE, asyncio.get_running_loop(), block=True, priority=priority)


async def busy_with_a_row(batcher: Batcher, model: Sum) -> asyncio.Future[Any]:
    """Keep the batcher busy with a row until the gate is set; return the future of its output."""
    return await busy(batcher, model, rows(9)[0])


def a_request(**settings: Any) -> RequestContext:
    return RequestContext("test", **{"deadline": LATE, **settings})


OutputsTask = asyncio.Task[list[Array | InvalidInputError]]


async def request_while_busy(predictor: Predictor, *requests: RequestContext) -> list[OutputsTask]:
    """Request the output of [1] in each context while the batcher is busy until the gate is set; return the tasks."""
    assert isinstance(predictor.model, Sum)
    await busy(predictor.batcher, predictor.model)
    tasks = [asyncio.create_task(predictor.outputs([[1]], request)) for request in requests]
    await until(lambda: sum(job.waiters for job in predictor.in_flight.values()) == len(requests))
    return tasks
