"""One model's ONNX session behind an adaptive batch queue: items in, one output per item out."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from models.model import Array, Model
from serving.inference.bisection import run_by_halves
from serving.inference.errors import DeadlineExceededError, OverloadedError
from serving.inference.observation import Observation
from serving.inference.pace import Pace
from serving.inference.padding import batch_inputs, batches, unstack
from serving.inference.preprocessing import preprocess
from serving.inference.priority import lower_priority
from serving.inference.queue import Job, Queue, total_size, without
from serving.inference.registry import ModelId
from serving.inference.session import PROCESSOR, open_session

log = logging.getLogger("tiffin.batcher")

# Larger rounds would sort a little better, but make a long item wait for every shorter one that came after it.
ROUND_BATCHES = 16
# Batches that take longer run side by side, a thread each: a fifth more of them than one by one on all threads, which
# wait for each other after every operation. Handing out shorter ones costs more than it saves.
PARALLEL_SECONDS = 0.001
# Where preprocessing a round takes longer, no more batches are taken at a time than can be computed side by side.
SLOW_SECONDS = 0.5


class Batcher:
    """Adaptive batching of a model's graph, run in threads of its own, since onnxruntime releases the interpreter lock.

    While the batcher is idle, an item is computed at once. While it is busy, items wait; then those that have waited
    longest, up to `ROUND_BATCHES` batches of them, are sorted by length, to pad little, and cut into batches of at most
    `max_batch`, the model's own by default. Batches that take long enough run side by side, and the next round begins
    as soon as one thread is free. When fewer items wait than fill a batch, the batcher waits for more for as long as
    the batch takes, `linger_seconds` at most.

    Blocks of rows wait behind single items, and are taken as many at a time as the free threads can compute.

    Items are refused when, by the pace of the last batches, those ahead of them will take longer than
    `queue_seconds` or than is left until their deadline; or when `queue_items` already wait.

    When a batch fails, its halves are computed, then their halves, so that a bad item fails alone.
    """

    def __init__(
        self,
        model: Model[Any],
        graph: Path,
        model_id: ModelId,
        threads: int,
        *,
        queue_items: int = 20_000,
        queue_seconds: float = 2.0,
        linger_seconds: float = 0.002,
        max_batch: int | None = None,
        provider: str = PROCESSOR,
    ) -> None:
        self.model = model
        self.id = model_id
        self.name = name = str(model_id)
        self.max_batch = max_batch or model.max_batch
        # Preprocessing, where it takes long, and inference run outside the interpreter lock.
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads, f"infer-{name}", initializer=lower_priority)
        # Opened in the pool, since a session's own threads inherit the priority of the thread that opens it.
        self.session = self.pool.submit(open_session, graph, threads, provider=provider).result()
        self.single = (
            self.pool.submit(open_session, graph, 1, provider=provider).result() if threads > 1 else self.session
        )
        self.queue_items = queue_items
        self.queue_seconds = queue_seconds
        self.linger_seconds = linger_seconds
        self.pace = Pace(self.max_batch)
        self.preparing = 0.0  # seconds of preprocessing per item in the last round
        self.queue = Queue()
        self.unfinished = 0  # items in the queue and in inference
        self.busy = 0  # threads with a batch of their own
        self.changed = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self.work, name=f"batcher-{name}", daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.observation = Observation(model_id)

    def expected_wait(self, *, block: bool = False) -> float:
        """Return the seconds that a new item, or a block, is expected to wait."""
        # Of the blocks, single items wait only for those that are taken together with them.
        ahead = self.unfinished if block else self.unfinished - max(0, self.queue.rows - self.max_batch)
        full, rest = divmod(ahead, self.max_batch)
        return full * self.pace.seconds(self.max_batch) + self.pace.seconds(rest)

    def check_load(self, deadline: float, *, block: bool = False) -> None:
        """Raise OverloadedError when a new item, or a block, could not be computed in time."""
        wait = self.expected_wait(block=block)
        waiting = self.queue.size if block else len(self.queue.items)
        left = deadline - time.monotonic()
        if waiting >= self.queue_items or (self.unfinished and wait > min(self.queue_seconds, left)):
            raise OverloadedError(max(wait - self.queue_seconds, 0.0))

    def enqueue(self, jobs: Sequence[Job], deadline: float) -> None:
        """Put jobs, all items or all blocks, into the queue; raise OverloadedError when they cannot be done in time."""
        size = total_size(jobs)
        try:
            self.check_load(deadline, block=jobs[0].block)
        except OverloadedError:
            self.observation.dropped["refused"].inc(size)
            raise
        if self.loop is None:
            self.thread.start()
            self.loop = asyncio.get_running_loop()
        now = time.monotonic()
        for job in jobs:
            job.queued = now
        with self.changed:
            self.queue.put(jobs)
            self.unfinished += size
            self.changed.notify()
        self.observation.depth.set(self.queue.size)

    def work(self) -> None:
        """Take waiting jobs and compute them until the batcher is closed. Runs in the batcher's thread."""
        lower_priority()
        while jobs := self.take():
            try:
                self.compute(self.preprocess(self.drop_expired(jobs)))
            except BaseException as error:  # it would end the thread, and with it the model
                log.exception("a batch of %s failed", self.name)
                self.fail(jobs, error)
            del jobs  # else their items would be kept until others come

    def take(self) -> list[Job]:
        """Wait for a free thread and take the jobs that have waited longest; return none once closed."""
        with self.changed:
            idle = not self.queue.size and not self.busy
            self.changed.wait_for(lambda: self.closed or (self.queue.size and self.busy < self.threads))
            # No longer than the batch itself takes, and not at all when idle.
            lingers = min(self.linger_seconds, self.pace.seconds(min(self.queue.size, self.max_batch)))
            end = time.monotonic() + (0.0 if idle else lingers)
            while not self.closed and self.queue.size < self.max_batch:
                left = end - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    break
            if self.closed:
                return []
            free = self.threads - self.busy
            slow = self.preparing * ROUND_BATCHES * self.max_batch > SLOW_SECONDS
            items = free * self.max_batch if slow else ROUND_BATCHES * self.max_batch
            jobs = self.queue.take(items=items, rows=free * self.max_batch)
            self.observation.depth.set(self.queue.size)
            return jobs

    def drop_expired(self, jobs: list[Job]) -> list[Job]:
        """Drop cancelled jobs and fail expired ones; return the others."""
        now = time.monotonic()
        abandoned = [job for job in jobs if job.future.cancelled()]
        expired = [job for job in jobs if job.deadline <= now and not job.future.cancelled()]
        if not abandoned and not expired:
            return jobs
        self.observation.dropped["abandoned"].inc(total_size(abandoned))
        self.observation.dropped["expired"].inc(total_size(expired))
        self.fail(abandoned + expired, DeadlineExceededError("the deadline passed"))
        return without(jobs, abandoned + expired)

    def preprocess(self, jobs: list[Job]) -> list[Job]:
        """Set the inputs of jobs and fail those whose items cannot be used; return the others."""
        if not jobs:
            return []
        started = time.monotonic()
        share = math.ceil(len(jobs) / (self.threads - self.busy))
        prepare = partial(preprocess, self.model, is_awaited=self.is_awaited)
        others = [self.pool.submit(prepare, jobs[at : at + share]) for at in range(share, len(jobs), share)]
        failed = [*prepare(jobs[:share]), *(fault for other in others for fault in other.result())]
        self.preparing = (time.monotonic() - started) / total_size(jobs)
        if not failed:
            return jobs
        gone = [job for job, _ in failed]
        self.deliver(gone, [error for _, error in failed])
        return without(jobs, gone)

    def is_awaited(self, job: Job) -> bool:
        """Return whether anybody still waits for a job."""
        return not self.closed and bool(self.drop_expired([job]))

    def compute(self, jobs: list[Job]) -> None:
        """Compute jobs in batches: one after the other on all threads, or one on each thread where that is faster."""
        if not jobs:
            return
        items = total_size(jobs)
        parts = math.ceil(items / self.max_batch)
        size = math.ceil(items / parts)
        alone = len(jobs) == 1 and not self.busy
        if self.threads == 1 or alone or self.pace.seconds(size) < PARALLEL_SECONDS:
            for batch in batches(jobs, size):
                self.infer(self.drop_expired(batch))
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

    def infer_beside(self, batch: list[Job]) -> None:
        """Compute a batch on one thread, beside others, then release the thread."""
        try:
            self.infer(self.drop_expired(batch), self.threads)
        except BaseException as error:  # nobody awaits the result of this call
            log.exception("a batch of %s failed", self.name)
            self.fail(batch, error)
        finally:
            self.release()

    def release(self) -> None:
        """Free a thread for the next batch."""
        with self.changed:
            self.busy -= 1
            self.changed.notify()

    def infer(self, batch: list[Job], parallel: int = 1) -> None:
        """Compute a batch, one of `parallel`; when it fails, retry it by halves, so that a bad item fails alone."""
        if not batch:
            return
        started = time.monotonic()
        self.observation.queue_wait.observe(started - min(job.queued for job in batch))
        try:
            outputs = self.outputs(batch, parallel)
        except Exception as error:
            self.retry(batch, parallel, error)
        else:
            self.deliver(batch, outputs)
        self.observation.trace(batch, started)

    def retry(self, batch: list[Job], parallel: int, cause: Exception) -> None:
        """Retry a failed batch by halves; fail the items that fail alone, and the parts left when retries run out."""
        failed = 0
        for part, outputs in run_by_halves(batch, cause, lambda part: self.outputs(part, parallel)):
            if isinstance(outputs, Exception):
                failed, cause = failed + total_size(part), outputs
                self.fail(part, outputs)
            else:
                self.deliver(part, outputs)
        log.error("%d of %d items in a batch of %s failed", failed, total_size(batch), self.name, exc_info=cause)

    def outputs(self, batch: Sequence[Job], parallel: int) -> Sequence[Array]:
        """Run a batch, one of `parallel`; return each job's output, raise ModelFaultError if their number is wrong."""
        session = self.session if parallel == 1 else self.single
        started = time.monotonic()
        items = total_size(batch)
        outputs = unstack(batch, items, session.run(None, batch_inputs(batch)))
        seconds = time.monotonic() - started
        self.observation.inference_seconds.observe(seconds)
        self.observation.batch_items.observe(items)
        self.pace.record(items, seconds / parallel + self.preparing * items)
        return outputs

    def fail(self, jobs: Sequence[Job], error: BaseException) -> None:
        """Fail jobs with an error, in the event loop."""
        self.deliver(jobs, [error] * len(jobs))

    def deliver(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Settle jobs with their outputs or errors, in the event loop."""
        if self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(self.settle, jobs, outputs)
        except RuntimeError:  # the loop is closed: nobody waits
            pass

    def settle(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Settle jobs with their outputs or errors, and count them as finished."""
        for job, output in zip(jobs, outputs, strict=True):
            if not job.settled:
                self.unfinished -= job.size
                job.settle(output)

    def close(self) -> None:
        """Stop the threads once the batches that they run are done, and fail the jobs that still wait."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join()
        self.pool.shutdown()
        self.fail(self.queue.take(items=self.queue.size, rows=self.queue.rows), RuntimeError("the model is closed"))
