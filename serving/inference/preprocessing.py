"""Preprocessing of items into a graph's inputs, one item at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from models.model import InvalidInputError, Model
from serving.inference.errors import without_frames
from serving.inference.job import Job
from serving.inference.padding import length


def preprocess(
    model: Model[Any], jobs: Sequence[Job], is_awaited: Callable[[Job], bool]
) -> list[tuple[Job, BaseException]]:
    """Set the inputs of jobs; return the jobs that failed, each with its error.

    A job for which, by `is_awaited`, nobody waits any more fails before it is preprocessed, since that may take long.
    """
    failed: list[tuple[Job, BaseException]] = []
    for job in jobs:
        if not is_awaited(job):
            failed.append((job, TimeoutError("nobody waits for it")))
            continue
        try:
            job.inputs = model.preprocess(job.item)
            job.length = length(job.inputs) // job.size
        except InvalidInputError as error:
            failed.append((job, without_frames(error)))
        except BaseException as error:  # one item must not fail the others; a panic in Rust is no Exception
            failed.append((job, error))
    return failed
