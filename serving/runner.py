"""One model's ONNX session: items in, one output per item out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from models.model import Array, InvalidInputError, Model
from serving import metrics

Inputs = dict[str, Array]


class Runner:
    """Runs a model's graph in a thread of its own; onnxruntime releases the interpreter lock.

    The items of one call are sorted by length, so that little is padded, and cut into batches of at
    most `model.max_batch`.
    """

    def __init__(self, model: Model[Any], graph: Path, name: str, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.model = model
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"runner-{name}")
        self.seconds = metrics.inference_seconds.labels(name)

    async def run(self, items: Collection[Any]) -> list[Array | InvalidInputError]:
        """The graph's output for each item, or why that item has none; in the items' order."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, self.run_batches, items)

    def run_batches(self, items: Collection[Any]) -> list[Array | InvalidInputError]:
        """`run`, in the calling thread."""
        results: list[Array | InvalidInputError | None] = [None] * len(items)
        prepared: list[tuple[int, Inputs]] = []
        for i, item in enumerate(items):
            try:
                prepared.append((i, self.model.preprocess(item)))
            except InvalidInputError as error:
                results[i] = error
        for batch in batches(prepared, self.model.max_batch):
            with self.seconds.time():
                (outputs,) = self.session.run(None, stack([inputs for _, inputs in batch]))
            for (i, _), output in zip(batch, outputs, strict=True):
                results[i] = output
        return results  # type: ignore[return-value]  # each place has been filled

    def close(self) -> None:
        """End the thread once what it runs is done."""
        self.executor.shutdown(cancel_futures=True)


def length(inputs: Inputs) -> int:
    """Elements of an item's inputs, which is what a batch of unequal items is padded to."""
    return sum(array.size for array in inputs.values())


def batches(prepared: list[tuple[int, Inputs]], most: int) -> Iterator[list[tuple[int, Inputs]]]:
    """Numbered inputs, sorted by length, at most `most` at a time."""
    ordered = sorted(prepared, key=lambda pair: length(pair[1]))
    for start in range(0, len(ordered), most):
        yield ordered[start : start + most]


def stack(batch: list[Inputs]) -> Inputs:
    """Each input with a batch axis in front; where first axes differ, zeros are appended."""
    return {name: stack_arrays([inputs[name] for inputs in batch]) for name in batch[0]}


def stack_arrays(arrays: list[Array]) -> Array:
    """Arrays that differ at most in their first axis as one array (n, longest, ...)."""
    first = arrays[0]
    if all(array.shape == first.shape for array in arrays):
        return np.stack(arrays)
    out = np.zeros((len(arrays), max(map(len, arrays)), *first.shape[1:]), dtype=first.dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
