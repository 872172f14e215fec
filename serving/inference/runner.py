"""Runs of batches on a model's sessions, with what they tell of the model's pace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from models.model import Array
from serving.inference.bisection import run_by_halves
from serving.inference.context import Priority
from serving.inference.delivery import Delivery
from serving.inference.job import Job, total_size
from serving.inference.observation import Observation
from serving.inference.pace import Pace
from serving.inference.padding import batch_inputs, unstack

log = logging.getLogger("tiffin.batcher")

# What takes less is computed by one thread: to wake others takes longer.
SMALL_SECONDS = 0.001


class Runner:
    """Runs batches, one at a time on all threads or one on each of `threads`, and delivers their outputs.

    When a batch fails, its halves are computed, then their halves, so that a bad item fails alone.
    """

    def __init__(
        self,
        open_session: Callable[[int], Any],
        threads: int,
        executor: Executor,
        *,
        name: str,
        pace: Pace,
        delivery: Delivery,
        observation: Observation,
        clock: Callable[[], float],
    ) -> None:
        self.threads = threads
        self.name = name
        self.pace = pace
        self.delivery = delivery
        self.observation = observation
        self.clock = clock
        # Opened in the executor, since a session's own threads inherit the priority of the thread that opens it.
        self.session = executor.submit(open_session, threads).result()
        # The start does not wait for this one, which takes as long again. It has a thread before any batch has one.
        self.opening = executor.submit(open_session, 1) if threads > 1 else None

    @property
    def single(self) -> Any:
        """The session of one thread."""
        return self.session if self.opening is None else self.opening.result()

    def infer(self, batch: list[Job], *, beside: bool = False) -> None:
        """Compute a batch on all threads, or on one thread beside others, and deliver its outputs."""
        if not batch:
            return
        started = self.clock()
        if batch[0].priority is Priority.INTERACTIVE:
            self.observation.queue_wait.observe(started - min(job.queued for job in batch))
        try:
            outputs = self.outputs(batch, beside)
        except Exception as error:
            self.retry(batch, beside, error)
        else:
            self.delivery.deliver(batch, outputs)
        self.observation.trace(batch, started, self.clock())

    def retry(self, batch: list[Job], beside: bool, cause: Exception) -> None:
        """Retry a failed batch by halves; fail the items that fail alone, and the parts left when retries run out."""
        failed = 0
        for part, outputs in run_by_halves(batch, cause, lambda part: self.outputs(part, beside)):
            if isinstance(outputs, Exception):
                failed, cause = failed + total_size(part), outputs
                self.delivery.fail(part, outputs)
            else:
                self.delivery.deliver(part, outputs)
        log.error("%d of %d items in a batch of %s failed", failed, total_size(batch), self.name, exc_info=cause)

    def outputs(self, batch: Sequence[Job], beside: bool) -> Sequence[Array]:
        """Run a batch; return each job's output, raise ModelFaultError if their number is wrong."""
        items = total_size(batch)
        small = 0 < self.pace.seconds(items) < SMALL_SECONDS
        session = self.single if beside or small else self.session
        started = self.clock()
        outputs = unstack(batch, items, session.run(None, batch_inputs(batch)))
        seconds = self.clock() - started
        self.observation.inference_seconds.observe(seconds)
        self.observation.batch_items.observe(items)
        self.observation.last_inference.set_to_current_time()
        self.pace.record(items, seconds / self.threads if beside else seconds)
        return outputs
