"""Delivery of outputs from the threads that compute to the event loop in which jobs are awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from serving.inference.admission import Admission
from serving.inference.job import Job


class Delivery:
    """Settles jobs in the event loop, and counts them as finished."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.loop: asyncio.AbstractEventLoop | None = None  # set with the first job

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
