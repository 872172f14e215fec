"""One model's ONNX session behind an adaptive batch queue: items in, one output per item out."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from models.model import Model
from serving.inference.admission import Admission
from serving.inference.at_once import AtOnce
from serving.inference.batch_work import BatchWork
from serving.inference.context import Priority
from serving.inference.delivery import Delivery
from serving.inference.errors import OverloadedError, UnknownModelError
from serving.inference.job import Job, total_size
from serving.inference.observation import Observation
from serving.inference.pace import Pace
from serving.inference.padding import batches
from serving.inference.preprocessing import preprocess
from serving.inference.priority import LOWER_BY, lower_priority
from serving.inference.queue import Queue
from serving.inference.registry import ModelId
from serving.inference.runner import Runner
from serving.inference.share import BatchShare

# Larger rounds would sort a little better, but make a long item wait for every shorter one that came after it.
ROUND_BATCHES = 16
# Where preprocessing a round takes longer, no more batches are taken at a time than can be computed side by side.
SLOW_SECONDS = 0.5


class Batcher:
    """Adaptive batching of a model's graph, run in threads of its own, since onnxruntime releases the interpreter lock.

    While the batcher is idle, an item is computed at once, in the event loop where that takes little (`at_once.py`).
    While it is busy, items wait; then those that have waited longest, up to `ROUND_BATCHES` batches of them, are sorted
    by length, to pad little, and cut into batches of at most `max_batch`, the model's own by default. Batches that take
    long enough run side by side, and the next round begins as soon as one thread is free. When fewer items wait than
    fill a batch, the batcher waits for more for as long as the batch takes, `linger_seconds` at most.

    Blocks of rows wait behind single items, and are taken as many at a time as the free threads can compute.

    Batch work is taken when no interactive work waits, or when it is due its share of computing time. It is taken a
    run at a time, each preprocessed and computed in a thread of the pool, and cut to `RUN_SECONDS` by the model's pace,
    so that an interactive item waits for no more than that; another thread is left free for interactive work.

    `Admission` says what is refused. When a batch fails, its halves are computed, then their halves, so that a bad item
    fails alone.

    `open_session(threads)` opens a session; by `clock`, in seconds, `wait` waits on a condition.
    """

    def __init__(
        self,
        model: Model[Any],
        open_session: Callable[[int], Any],
        model_id: ModelId,
        threads: int,
        *,
        queue_items: int = 20_000,
        queue_seconds: float = 2.0,
        linger_seconds: float = 0.002,
        batch_share: float = 0.05,
        max_batch: int | None = None,
        niceness: int = LOWER_BY,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        wait: Callable[[threading.Condition, float], bool] = threading.Condition.wait,
    ) -> None:
        self.model = model
        self.name = name = str(model_id)
        self.max_batch = max_batch or model.max_batch
        self.linger_seconds = linger_seconds
        self.clock = clock
        self.wait = wait
        # Preprocessing, where it takes long, and inference run outside the interpreter lock.
        self.threads, self.niceness = threads, niceness
        self.pool = ThreadPoolExecutor(threads, f"infer-{name}", lower_priority, (niceness,))
        self.pace = Pace(self.max_batch)
        self.queue = Queue()
        self.share = BatchShare(batch_share, threads, self.queue)
        self.admission = Admission(
            self.queue,
            self.pace,
            self.share,
            max_batch=self.max_batch,
            queue_items=queue_items,
            queue_seconds=queue_seconds,
        )
        self.observation = Observation(model_id)
        self.delivery = Delivery(self.admission, self.observation, clock)
        self.runner = Runner(
            open_session,
            threads,
            self.pool,
            name=name,
            pace=self.pace,
            delivery=self.delivery,
            observation=self.observation,
            clock=clock,
        )
        self.at_once = AtOnce(model, self.max_batch, self.runner, self.hand_over, cpu_clock, linger_seconds)
        self.busy = 0  # threads with a batch of their own
        self.changed = threading.Condition()
        self.batch_work = BatchWork(model, self.queue, self.changed, self.share, self.runner, self.max_batch)
        self.closed = False
        self.thread = threading.Thread(target=self.work, name=f"batcher-{name}", daemon=True)

    def expected_wait(self, priority: Priority = Priority.INTERACTIVE, *, block: bool = False) -> float:
        """Return the seconds that a new item, or a block, is expected to wait."""
        return self.admission.expected_wait(priority, block=block)

    def enqueue(self, jobs: list[Job], deadline: float) -> None:
        """Queue jobs, all items or all blocks; raise OverloadedError in want of time, UnknownModelError once closed."""
        size = total_size(jobs)
        priority = jobs[0].priority
        now = self.clock()
        try:
            self.admission.check(deadline - now, priority, block=jobs[0].block)
        except OverloadedError:
            self.observation.dropped["refused"].inc(size)
            raise
        if self.delivery.loop is None:
            self.thread.start()
            self.delivery.start()
        for job in jobs:
            job.queued = now
        if priority is Priority.INTERACTIVE and self.at_once.takes(size):
            self.at_once.gather(jobs)
        else:
            self.hand_over(jobs)
        self.admission.unfinished += size  # jobs are settled in this thread, and so later

    def hand_over(self, jobs: Sequence[Job]) -> None:
        """Queue jobs for the batcher's thread; raise UnknownModelError once closed."""
        with self.changed:
            if self.closed:
                raise UnknownModelError("the model has been unloaded")
            self.queue.put(jobs)
            self.changed.notify()
        self.observe_queue(jobs[0].priority)

    def promote(self, jobs: Sequence[Job]) -> None:
        """Make jobs interactive that were batch work, wherever they are: somebody waits for them now."""
        with self.changed:
            self.queue.promote(jobs)
            self.changed.notify()
        self.observe_queue(Priority.INTERACTIVE)
        self.observe_queue(Priority.BATCH)

    def work(self) -> None:
        """Take waiting jobs and compute them until the batcher is closed. Runs in the batcher's thread."""
        lower_priority(self.niceness)
        while not self.closed:
            jobs: list[Job] = []
            try:
                jobs = self.take()
                self.compute(self.preprocess(self.delivery.drop_expired(jobs)))
            except BaseException as error:  # it would end the thread, and with it the model
                self.delivery.fail_all(jobs, error)
            del jobs  # else their items would be kept until others come

    def take(self) -> list[Job]:
        """Wait for interactive work and a thread for it, take the jobs that have waited longest; none once closed.

        Meanwhile, start runs of batch work.
        """
        with self.changed:
            idle = not self.queue.size and not self.busy
            # Each condition is looked at once, since the share, and so what is next, may change at any time.
            while not self.closed:
                if self.batch_work.is_next(self.busy):
                    self.start_batch_run()
                elif self.queue.size and self.busy < self.threads:
                    break
                else:
                    self.changed.wait()
            # No longer than the batch itself takes, and not at all when idle.
            lingers = min(self.linger_seconds, self.pace.seconds(min(self.queue.size, self.max_batch)))
            end = self.clock() + (0.0 if idle else lingers)
            while not self.closed and self.queue.size < self.max_batch:
                left = end - self.clock()
                if left <= 0 or not self.wait(self.changed, left):
                    break
            if self.closed:
                return []
            free = self.threads - self.busy
            slow = self.pace.preparing[Priority.INTERACTIVE] * ROUND_BATCHES * self.max_batch > SLOW_SECONDS
            items = free * self.max_batch if slow else ROUND_BATCHES * self.max_batch
            jobs = self.queue.take(items=items, rows=free * self.max_batch)
            self.observe_queue(Priority.INTERACTIVE)
            return jobs

    def start_batch_run(self) -> None:
        """Start a run of batch work in a thread of its own. Called with the lock held."""
        self.busy += 1
        self.batch_work.busy += 1
        try:
            self.pool.submit(self.run_batch_work)
        except BaseException as error:  # no thread could be started
            self.busy -= 1
            self.batch_work.busy -= 1
            if job := self.queue.take_batch(self.max_batch):
                self.delivery.fail([job], error)

    def run_batch_work(self) -> None:
        """Compute a run of batch work, then release the thread."""
        try:
            self.batch_work.run(lambda: self.busy == 1)
        finally:
            self.release()

    def preprocess(self, jobs: list[Job]) -> list[Job]:
        """Set the inputs of jobs and fail those whose items cannot be used; return the others."""
        if not jobs:
            return []
        started = self.clock()
        share = math.ceil(len(jobs) / (self.threads - self.busy))
        prepare = partial(preprocess, self.model, is_awaited=self.is_awaited)
        others = [self.pool.submit(prepare, jobs[at : at + share]) for at in range(share, len(jobs), share)]
        failed = [*prepare(jobs[:share]), *(fault for other in others for fault in other.result())]
        seconds = self.clock() - started
        self.share.record(Priority.INTERACTIVE, seconds)
        self.pace.record_preparing(Priority.INTERACTIVE, len(jobs), seconds)
        return self.delivery.without_failed(jobs, failed)

    def is_awaited(self, job: Job) -> bool:
        """Return whether anybody still waits for a job."""
        return not self.closed and self.delivery.is_awaited(job)

    def compute(self, jobs: list[Job]) -> None:
        """Compute jobs in batches: one after the other on all threads, or one on each thread where that is faster."""
        if not jobs:
            return
        items = total_size(jobs)
        parts = math.ceil(items / self.max_batch)
        size = math.ceil(items / parts)
        alone = len(jobs) == 1 and not self.busy
        if self.threads == 1 or alone or not self.pace.is_long(size):
            for batch in batches(jobs, size):
                self.infer(batch)
            return
        free = self.threads - self.busy
        parts = free * math.ceil(parts / free)
        for batch in batches(jobs, math.ceil(items / parts)):
            with self.changed:
                self.changed.wait_for(lambda: self.busy < self.threads)
                self.busy += 1
            try:
                self.pool.submit(self.infer_beside, batch)
            except BaseException:
                self.release()
                raise

    def infer(self, batch: list[Job], *, beside: bool = False) -> None:
        """Compute a batch of interactive work and count its time."""
        started = self.clock()
        try:
            self.runner.infer(self.delivery.drop_expired(batch), beside=beside)
        finally:
            seconds = self.clock() - started
            self.share.record(Priority.INTERACTIVE, seconds / self.threads if beside else seconds)

    def infer_beside(self, batch: list[Job]) -> None:
        """Compute a batch on one thread, beside others, then release the thread."""
        try:
            self.infer(batch, beside=True)
        except BaseException as error:  # nobody awaits the result of this call
            self.delivery.fail_all(batch, error)
        finally:
            self.release()

    def release(self) -> None:
        """Free a thread for the next batch."""
        with self.changed:
            self.busy -= 1
            self.changed.notify()

    def observe_queue(self, priority: Priority) -> None:
        """Set the gauge of the items of a priority that wait."""
        size = self.queue.batch_size if priority is Priority.BATCH else self.queue.size
        self.observation.waiting[priority].set(size)

    def close(self) -> None:
        """Stop the threads once the batches that they run are done, and fail the jobs that still wait."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join()
        self.pool.shutdown()
        self.delivery.fail(self.queue.drain(), RuntimeError("the model is closed"))
