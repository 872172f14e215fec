"""Delivery of outputs from the threads that compute to the event loop in which jobs are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from serving.inference.admission import Admission
from serving.inference.errors import DeadlineExceededError
from serving.inference.job import Job, total_size, without
from serving.inference.observation import Observation


class Delivery:
    """Settles jobs in the event loop, and counts them as finished."""

    def __init__(self, admission: Admission, observation: Observation, clock: Callable[[], float]) -> None:
        self.admission = admission
        self.observation = observation
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None  # set with the first job

    def drop_expired(self, jobs: list[Job]) -> list[Job]:
        """Drop cancelled jobs and fail expired ones; return the others."""
        now = self.clock()
        # The future of a part of a block is done as well when another part has failed.
        abandoned = [job for job in jobs if job.future.done()]
        expired = [job for job in jobs if job.deadline <= now and not job.future.done()]
        if not abandoned and not expired:
            return jobs
        self.observation.dropped["abandoned"].inc(total_size(abandoned))
        self.observation.dropped["expired"].inc(total_size(expired))
        self.fail(abandoned + expired, DeadlineExceededError("the deadline passed"))
        return without(jobs, abandoned + expired)

    def is_awaited(self, job: Job) -> bool:
        """Return whether anybody still waits for a job; settle it where nobody does."""
        return bool(self.drop_expired([job]))

    def fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Settle jobs with an error."""
        self.deliver(jobs, [error] * len(jobs))

    def deliver(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Settle jobs with their outputs or errors."""
        if self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(self.settle, jobs, outputs)
        except RuntimeError:  # the loop is closed: nobody waits
            pass

    def settle(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Settle jobs in the event loop."""
        for job, output in zip(jobs, outputs, strict=True):
            if not job.settled:
                self.admission.unfinished -= job.size
                job.settle(output)
