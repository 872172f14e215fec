"""A model whose graph looks numbers up in a table and adds them up, and batchers of it that tell what they do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.model import Array, Columns, InvalidInputError, Model
from serving.inference.batcher import Batcher
from serving.inference.queue import Job, Output
from serving.inference.registry import ModelId

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
