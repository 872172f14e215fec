"""Batches of items of similar length, and the stacking of their arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from models.model import Array
from serving.inference.errors import ModelFaultError
from serving.inference.job import Inputs, Job, total_size

# How many times the elements of an average batch one may have, padded. Where each had as many items, those of the
# longest ones would take a twentieth more time in all, and the last of them half as long again.
MOST_TIMES = 1.5


def length(inputs: Inputs) -> int:
    """Return the number of elements in inputs, which is what a batch of unequal items is padded to."""
    return sum(array.size for array in inputs.values())


def batches(jobs: list[Job], most: int) -> Iterator[list[Job]]:
    """Yield batches of jobs sorted by length, blocks last, of at most `most` items; a larger block goes alone.

    Long items come in smaller batches than short ones: none has more than MOST_TIMES the elements of an average batch.
    """
    if len(jobs) == 1:
        yield jobs
        return
    elements = MOST_TIMES * most * sum(job.length * job.size for job in jobs) / total_size(jobs)
    batch: list[Job] = []
    size = 0
    for job in sorted(jobs, key=lambda job: (job.block, job.length)):
        if batch and (size + job.size > most or (size + job.size) * job.length > elements):
            yield batch
            batch, size = [], 0
        batch.append(job)
        size += job.size
    if batch:
        yield batch


def batch_inputs(batch: Sequence[Job]) -> Inputs:
    """Return the graph's inputs for a batch, blocks last, with a batch axis; a single block is not copied."""
    if len(batch) == 1 and batch[0].block:
        return batch[0].inputs
    if not batch[-1].block:
        return stack([job.inputs for job in batch])
    return {
        name: np.concatenate([job.inputs[name] if job.block else job.inputs[name][None] for job in batch])
        for name in batch[0].inputs
    }


def run_by_length(run: Callable[[Inputs], Array], inputs: Sequence[Inputs], most: int) -> Array:
    """Return a graph's outputs (n, ...) for inputs of one item each, in their order.

    `run` is called with batches of at most `most` items of similar length.
    """
    order = sorted(range(len(inputs)), key=lambda index: length(inputs[index]))
    found: dict[int, Array] = {}
    for start in range(0, len(order), most):
        part = order[start : start + most]
        found |= zip(part, run(stack([inputs[index] for index in part])), strict=True)
    return np.stack([found[index] for index in range(len(inputs))])


def stack(batch: Sequence[Inputs]) -> Inputs:
    """Stack each input along a batch axis in front; append zeros where first axes differ."""
    return {name: stack_arrays([inputs[name] for inputs in batch]) for name in batch[0]}


def stack_arrays(arrays: list[Array]) -> Array:
    """Stack arrays that differ at most in their first axis into one array (n, longest, ...)."""
    first = arrays[0]
    if len(arrays) == 1:
        return first[None]
    if all(array.shape == first.shape for array in arrays):
        return np.stack(arrays)
    out = np.zeros((len(arrays), max(map(len, arrays)), *first.shape[1:]), dtype=first.dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out


def unstack(batch: Sequence[Job], items: int, outputs: Sequence[Any]) -> Sequence[Array]:
    """Split the graph's outputs for `items` items among a batch's jobs: an item gets one row, a block all of its rows.

    Raises ModelFaultError unless there is one array with a row for each item.
    """
    if len(outputs) != 1:
        raise ModelFaultError(f"the graph has {len(outputs)} outputs, it must have one")
    (output,) = outputs
    if not isinstance(output, np.ndarray) or output.shape[:1] != (items,):
        raise ModelFaultError(f"the graph's output for {items} items has the shape {np.shape(output)}")
    if not batch[-1].block:
        return list(output)
    found, start = [], 0
    for job in batch:
        found.append(output[start : start + job.size] if job.block else output[start])
        start += job.size
    return found
