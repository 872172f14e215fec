"""Batches of items of similar length, and the stacking of their arrays."""

from __future__ import annotations

import asyncio

import numpy as np

from models.model import Array
from serving.inference.job import Inputs, Job
from serving.inference.padding import batches, run_by_length, stack
from tests.support.batchers import (
    LATE,
)


def batched(lengths: list[int], most: int) -> list[list[int]]:
    """Return the lengths of items by the batch that they come in."""

    async def jobs() -> list[Job]:
        made = [Job(length, LATE, asyncio.get_running_loop()) for length in lengths]
        for job in made:
            job.length = job.item
        return made

    return [[job.item for job in batch] for batch in batches(asyncio.run(jobs()), most)]


def test_batches_are_sorted_by_length_and_bounded() -> None:
    assert batched([9, 7, 8, 6, 8], 2) == [[6, 7], [8, 8], [9]]
    assert batched([5] * 5, 2) == [[5, 5], [5, 5], [5]]


def test_long_items_come_in_smaller_batches() -> None:
    assert batched([10] * 7 + [100], 8) == [[10] * 7, [100]]
    assert batched([20, 100, 30, 20, 100, 100, 30, 100], 4) == [[20, 20, 30, 30], [100, 100, 100], [100]]


def test_shorter_items_are_padded_with_zeros() -> None:
    stacked = stack([{"x": np.array([1, 2, 3])}, {"x": np.array([4])}])
    assert stacked["x"].tolist() == [[1, 2, 3], [4, 0, 0]]


def test_items_of_equal_shape_are_stacked() -> None:
    assert stack([{"x": np.ones((3, 2))}, {"x": np.zeros((3, 2))}])["x"].shape == (2, 3, 2)


def test_outputs_stand_in_the_items_order_however_these_are_batched() -> None:
    sizes: list[int] = []

    def run(batch: Inputs) -> Array:
        sizes.append(len(batch["x"]))
        sums: Array = batch["x"].sum(axis=1)
        return sums

    inputs = [{"x": np.arange(count)} for count in (9, 1, 8, 2, 3)]
    assert run_by_length(run, inputs, 2).tolist() == [36, 0, 28, 1, 3]
    assert sizes == [2, 2, 1]
