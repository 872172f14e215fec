"""Runs of batch work, each preprocessed and computed in one thread of its own, beside interactive work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from models.model import Model
from serving.inference.context import Priority
from serving.inference.job import Job, total_size, without
from serving.inference.padding import batches
from serving.inference.preprocessing import preprocess
from serving.inference.queue import Queue
from serving.inference.runner import Runner
from serving.inference.share import RUN_SECONDS, BatchShare

log = logging.getLogger("tiffin.batcher")


class BatchWork:
    """Takes batch work from the queue, a run at a time, each cut to `RUN_SECONDS` of preprocessing and inference.

    A run has one item at least, so that on a single thread interactive work may wait for as long as an item takes. On
    more, one thread is always left to it.

    `lock` guards the queue and `busy`.
    """

    def __init__(
        self,
        model: Model[Any],
        queue: Queue,
        lock: threading.Condition,
        share: BatchShare,
        runner: Runner,
        max_batch: int,
    ) -> None:
        self.model = model
        self.queue = queue
        self.lock = lock
        self.share = share
        self.runner = runner
        self.max_batch = max_batch
        self.threads = runner.threads
        self.pace = runner.pace
        self.delivery = runner.delivery
        self.observation = runner.observation
        self.clock = runner.clock
        self.busy = 0  # threads that compute batch work

    def is_next(self, busy: int) -> bool:
        """Return whether batch work waits, may go before waiting interactive work, and has a thread beside `busy`."""
        if not self.queue.batch_size or busy >= self.threads:
            return False
        if self.share.is_due:
            return self.busy < max(1, self.threads - 1)
        return not self.queue.size and (not busy or busy < self.threads - 1)

    def run(self, is_alone: Callable[[], bool]) -> None:
        """Compute a run on this thread; infer on all where `is_alone` says that nothing else is computed."""
        started = self.clock()
        jobs: list[Job] = []
        on_all = 0.0
        try:
            usable = self.prepare(jobs, 1 if self.may_use_all(is_alone) else self.threads)
            alone = self.may_use_all(is_alone)
            inferred = self.clock()
            for batch in batches(usable, self.max_batch) if usable else ():
                self.runner.infer(self.delivery.drop_expired(batch), beside=not alone)
            on_all = self.clock() - inferred if alone else 0.0
        except BaseException as error:  # nobody awaits the result of this call
            log.exception("a batch of %s failed", self.runner.name)
            self.delivery.fail(jobs, error)
        finally:
            on_one = self.clock() - started - on_all
            self.share.record(Priority.BATCH, on_all + on_one / self.threads)
            with self.lock:
                self.busy -= 1

    def may_use_all(self, is_alone: Callable[[], bool]) -> bool:
        """Return whether a run may infer on all threads; with more than two, others run more of the batch work."""
        return self.threads <= 2 and is_alone() and not self.queue.size

    def prepare(self, jobs: list[Job], parallel: int) -> list[Job]:
        """Append the jobs of a run to `jobs` and preprocess them; return those that can be used.

        Inference will use one of `parallel` threads.
        """
        started = self.clock()
        spent = 0.0
        failed: list[tuple[Job, BaseException]] = []
        while job := self.take(total_size(jobs), spent, parallel):
            jobs.append(job)
            failed += preprocess(self.model, [job], is_awaited=self.delivery.is_awaited)
            spent = self.clock() - started
        self.observation.waiting[Priority.BATCH].set(self.queue.batch_size)
        if not jobs:
            return []
        self.pace.record_preparing(Priority.BATCH, total_size(jobs), spent)
        if not failed:
            return jobs
        gone = [job for job, _ in failed]
        self.delivery.deliver(gone, [error for _, error in failed])
        return without(jobs, gone)

    def take(self, items: int, spent: float, parallel: int) -> Job | None:
        """Take the next job of a run of `items` so far, preprocessed in `spent` seconds; None where the run is full."""
        preparing = spent / items if items else self.pace.preparing[Priority.BATCH]
        most = min(self.pace.items(RUN_SECONDS / parallel, preparing / parallel), self.max_batch)
        if items >= most:
            return None
        with self.lock:
            return self.queue.take_batch(most - items)
