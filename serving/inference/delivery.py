"""Delivery of outputs from the threads that compute to the event loop in which jobs are awaited."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from serving.inference.admission import Admission
from serving.inference.errors import DeadlineExceededError
from serving.inference.job import Job, total_size, without
from serving.inference.observation import Observation

log = logging.getLogger("tiffin.batcher")


class Delivery:
    """Settles jobs in the event loop, and counts them as finished."""

    def __init__(self, admission: Admission, observation: Observation, clock: Callable[[], float]) -> None:
        self.admission = admission
        self.observation = observation
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None  # set with the first job
        self.loop_thread = 0

    def start(self) -> None:
        """Deliver to the event loop that is running."""
        self.loop = asyncio.get_running_loop()
        self.loop_thread = threading.get_ident()

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

    def without_failed(self, jobs: list[Job], failed: Sequence[tuple[Job, BaseException]]) -> list[Job]:
        """Settle those jobs that failed with their errors; return the others."""
        if not failed:
            return jobs
        gone = [job for job, _ in failed]
        self.deliver(gone, [error for _, error in failed])
        return without(jobs, gone)

    def fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Settle jobs with an error."""
        self.deliver(jobs, [error] * len(jobs))

    def fail_all(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Log an error that no job is to blame for, and settle jobs with it. Called where it has been caught."""
        log.exception("a batch of %s failed", self.observation.model)
        self.fail(jobs, error)

    def deliver(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Settle jobs with their outputs or errors."""
        if self.loop is None:
            return
        if threading.get_ident() == self.loop_thread:
            self.settle(jobs, outputs)
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
