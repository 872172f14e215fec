"""Batches of items of like length, and their arrays as one."""

from __future__ import annotations

import asyncio

import numpy as np

from serving.inference.job import Job
from serving.inference.padding import batches, stack
from tests.support.batchers import (
    LATE,
)


def test_batches_are_sorted_by_length_and_bounded() -> None:
    async def jobs() -> list[Job]:
        made = [Job(n, LATE, asyncio.get_running_loop()) for n in (9, 1, 8, 2, 3)]
        for job in made:
            job.length = job.item
        return made

    assert [[job.item for job in batch] for batch in batches(asyncio.run(jobs()), 2)] == [[1, 2], [3, 8], [9]]


def test_shorter_items_are_padded_with_zeros() -> None:
    stacked = stack([{"x": np.array([1, 2, 3])}, {"x": np.array([4])}])
    assert stacked["x"].tolist() == [[1, 2, 3], [4, 0, 0]]


def test_items_of_equal_shape_are_stacked() -> None:
    assert stack([{"x": np.ones((3, 2))}, {"x": np.zeros((3, 2))}])["x"].shape == (2, 3, 2)
