"""One model's ONNX session behind an adaptive batch queue: items in, one output per item out."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.model import Array, InvalidInputError, Model
from serving import metrics, tracing
from serving.inference.session import open_session

log = logging.getLogger("tiffin.runner")

# More would sort a little better and let a long item wait for all shorter ones that came after it.
ROUND_BATCHES = 16
# Batches that take longer run side by side, a thread each: a fifth more of them than one by one on all threads, which
# wait for each other after every operation. To hand out shorter ones costs more than it saves.
PARALLEL_SECONDS = 0.001

Inputs = dict[str, Array]
Output = Array | InvalidInputError


class OverloadedError(Exception):
    """What is asked for cannot be computed in time; after `retry_after_seconds` it may be."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("overloaded")
        self.retry_after_seconds = retry_after_seconds


class Job:
    """One item on its way through the queue, for one or more requests.

    `future` is cancelled once nobody waits for it: the item is then dropped. `deadline` is one of
    `time.monotonic`. `known` tells that its output was found in a cache meanwhile.
    """

    __slots__ = ("deadline", "future", "inputs", "item", "known", "queued", "settled", "trace", "waiters")

    def __init__(self, item: Any, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self.item = item
        self.deadline = deadline
        self.future: asyncio.Future[Output] = loop.create_future()
        self.waiters = 0
        self.known = self.settled = False
        self.inputs: Inputs = {}
        self.queued = 0.0
        self.trace = tracing.here()


class Runner:
    """Runs a model's graph in threads of its own; onnxruntime releases the interpreter lock.

    While it is idle, an item goes at once. While it is busy, items wait; then those that wait longest, up to
    `ROUND_BATCHES` batches of them, are sorted by length, so that little is padded, and cut into batches of at most
    `max_batch`, the model's own by default. Where these take long enough they run side by side, and what waits goes on
    as soon as one thread is free. When fewer wait than fill a batch, more are awaited for as long as the batch takes,
    `linger_seconds` at most.

    Items are refused when those before them will take longer than `queue_seconds`, or longer than
    until their deadline, by the pace of the last batches; or when `queue_items` wait.
    """

    def __init__(
        self,
        model: Model[Any],
        graph: Path,
        name: str,
        threads: int,
        *,
        queue_items: int = 20_000,
        queue_seconds: float = 2.0,
        linger_seconds: float = 0.002,
        max_batch: int | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.max_batch = max_batch or model.max_batch
        # Preprocessing, where it takes long, and inference run outside the interpreter lock.
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads, f"infer-{name}", initializer=yield_cores)
        # Made there, since a session's own threads have the priority of the one that made it.
        self.session = self.pool.submit(open_session, graph, threads).result()
        self.single = self.pool.submit(open_session, graph, 1).result() if threads > 1 else self.session
        self.queue_items = queue_items
        self.queue_seconds = queue_seconds
        self.linger_seconds = linger_seconds
        # Seconds that a batch adds to the wait, by the bit length of its size: moving averages, 0 where there was none.
        self.batch_seconds = [0.0] * (self.max_batch.bit_length() + 1)
        self.preparing = 0.0  # seconds of preprocessing per item, the last time
        self.waiting: list[Job] = []
        self.unfinished = 0  # items in the queue and in inference
        self.busy = 0  # threads with a batch of their own
        self.changed = threading.Condition()
        self.closed = False
        self.thread = threading.Thread(target=self.work, name=f"runner-{name}", daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.inference_seconds = metrics.inference_seconds.labels(name)
        self.batch_items = metrics.batch_items.labels(name)
        self.depth = metrics.queue_items.labels(name)
        self.queue_wait = metrics.queue_seconds.labels(name)
        self.dropped = {
            reason: metrics.dropped_items.labels(name, reason) for reason in ("refused", "abandoned", "expired")
        }

    def expected_wait(self) -> float:
        """Seconds that a new item will wait, as far as can be foreseen."""
        full, rest = divmod(self.unfinished, self.max_batch)
        return full * self.expected_seconds(self.max_batch) + self.expected_seconds(rest)

    def expected_seconds(self, items: int) -> float:
        """Seconds that a batch takes, as batches of about its size did; else smaller, else larger ones."""
        size = items.bit_length()
        if not items:
            return 0.0
        known = [*reversed(self.batch_seconds[1 : size + 1]), *self.batch_seconds[size + 1 :]]
        return next((seconds for seconds in known if seconds), 0.0)

    def check_load(self, deadline: float) -> None:
        """Raise OverloadedError when an item that comes now cannot be computed in time."""
        wait = self.expected_wait()
        left = deadline - time.monotonic()
        if len(self.waiting) >= self.queue_items or (self.unfinished and wait > min(self.queue_seconds, left)):
            raise OverloadedError(max(wait - self.queue_seconds, 0.0))

    def submit(self, items: Collection[Any], deadline: float) -> list[Job]:
        """A job in the queue for each item; OverloadedError when they cannot be done in time."""
        loop = asyncio.get_running_loop()
        jobs = [Job(item, deadline, loop) for item in items]
        self.enqueue(jobs, deadline)
        return jobs

    def enqueue(self, jobs: Sequence[Job], deadline: float) -> None:
        """Put jobs into the queue; OverloadedError when they cannot be done in time."""
        try:
            self.check_load(deadline)
        except OverloadedError:
            self.dropped["refused"].inc(len(jobs))
            raise
        if self.loop is None:
            self.loop = asyncio.get_running_loop()
            self.thread.start()
        now = time.monotonic()
        for job in jobs:
            job.queued = now
        with self.changed:
            self.waiting += jobs
            self.unfinished += len(jobs)
            self.changed.notify()
        self.depth.set(len(self.waiting))

    async def run(self, items: Collection[Any], timeout_seconds: float = 60.0) -> list[Output]:
        """The graph's output for each item, or why that item has none; in the items' order."""
        jobs = self.submit(items, time.monotonic() + timeout_seconds)
        return [await job.future for job in jobs]

    def work(self) -> None:
        """Until closed, take what waits and have it computed. Runs in the runner's thread."""
        yield_cores()
        while jobs := self.take():
            try:
                self.compute(self.prepared(self.wanted(jobs)))
            except Exception as error:  # it would end the thread, and with it the model
                log.exception("a batch of %s failed", self.name)
                self.deliver(jobs, [error] * len(jobs))

    def take(self) -> list[Job]:
        """What waits longest, once a thread is free for it; nothing when closed."""
        with self.changed:
            idle = not self.waiting and not self.busy
            self.changed.wait_for(lambda: self.closed or (self.waiting and self.busy < self.threads))
            # Not longer than the batch itself takes, nor at all when it was idle.
            lingers = min(self.linger_seconds, self.expected_seconds(min(len(self.waiting), self.max_batch)))
            end = time.monotonic() + (0.0 if idle else lingers)
            while not self.closed and len(self.waiting) < self.max_batch:
                left = end - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    break
            if self.closed:
                return []
            most = ROUND_BATCHES * self.max_batch
            jobs, self.waiting = self.waiting[:most], self.waiting[most:]
            self.depth.set(len(self.waiting))
            return jobs

    def wanted(self, jobs: list[Job]) -> list[Job]:
        """The jobs for which somebody still waits; what has expired fails."""
        now = time.monotonic()
        abandoned = [job for job in jobs if job.future.cancelled()]
        expired = [job for job in jobs if job.deadline <= now and not job.future.cancelled()]
        if not abandoned and not expired:
            return jobs
        self.dropped["abandoned"].inc(len(abandoned))
        self.dropped["expired"].inc(len(expired))
        self.deliver(abandoned + expired, [TimeoutError("the deadline passed")] * (len(abandoned) + len(expired)))
        gone = {id(job) for job in abandoned + expired}
        return [job for job in jobs if id(job) not in gone]

    def prepared(self, jobs: list[Job]) -> list[Job]:
        """The jobs, with their inputs; those whose items cannot be used fail."""
        if not jobs:
            return []
        started = time.monotonic()
        share = math.ceil(len(jobs) / (self.threads - self.busy))
        others = [self.pool.submit(self.prepare, jobs[at : at + share]) for at in range(share, len(jobs), share)]
        failed = [*self.prepare(jobs[:share]), *(fault for other in others for fault in other.result())]
        self.preparing = (time.monotonic() - started) / len(jobs)
        if not failed:
            return jobs
        self.deliver([job for job, _ in failed], [error for _, error in failed])
        gone = {id(job) for job, _ in failed}
        return [job for job in jobs if id(job) not in gone]

    def prepare(self, jobs: Sequence[Job]) -> list[tuple[Job, Exception]]:
        """Set the jobs' inputs; those that have none, and why."""
        failed: list[tuple[Job, Exception]] = []
        for job in jobs:
            try:
                job.inputs = self.model.preprocess(job.item)
            except Exception as error:  # one item must not fail the others
                failed.append((job, error))
        return failed

    def compute(self, jobs: list[Job]) -> None:
        """Compute jobs in batches, one after the other on all threads, or one on each thread when that pays."""
        if not jobs:
            return
        parts = math.ceil(len(jobs) / self.max_batch)
        size = math.ceil(len(jobs) / parts)
        alone = len(jobs) == 1 and not self.busy
        if self.threads == 1 or alone or self.expected_seconds(size) < PARALLEL_SECONDS:
            for batch in batches(jobs, size):
                self.infer(self.wanted(batch))
            return
        free = self.threads - self.busy
        parts = free * math.ceil(parts / free)
        for batch in batches(jobs, math.ceil(len(jobs) / parts)):
            with self.changed:
                self.changed.wait_for(lambda: self.busy < self.threads)
                self.busy += 1
            self.pool.submit(self.infer_beside, batch)

    def infer_beside(self, batch: list[Job]) -> None:
        """Compute a batch while others are computed, then be free for the next one."""
        try:
            self.infer(self.wanted(batch), self.threads)
        except Exception as error:  # nobody looks at what becomes of this call
            log.exception("a batch of %s failed", self.name)
            self.deliver(batch, [error] * len(batch))
        finally:
            with self.changed:
                self.busy -= 1
                self.changed.notify()

    def infer(self, batch: list[Job], parallel: int = 1) -> None:
        """Compute a batch, one of `parallel`; when it fails, each of its items alone, so that a bad one fails alone."""
        if not batch:
            return
        session = self.session if parallel == 1 else self.single
        started = time.monotonic()
        self.queue_wait.observe(started - min(job.queued for job in batch))
        try:
            (outputs,) = session.run(None, stack([job.inputs for job in batch]))
        except Exception as error:
            if len(batch) > 1:
                for job in batch:
                    self.infer([job], parallel)
                return
            log.exception("inference of %s failed", self.name)
            outputs = [error]
        ended = time.monotonic()
        for job in {id(job.trace): job for job in batch}.values():
            tracing.record("queue", job.trace, job.queued, started, model=self.name)
            tracing.record("inference", job.trace, started, ended, model=self.name, batch_items=len(batch))
        seconds = ended - started
        self.inference_seconds.observe(seconds)
        self.batch_items.observe(len(batch))
        seconds = seconds / parallel + self.preparing * len(batch)
        size = len(batch).bit_length()
        average = self.batch_seconds[size]
        self.batch_seconds[size] = average + (seconds - average) * (0.1 if average else 1.0)
        self.deliver(batch, outputs)

    def deliver(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Have the event loop hand out what became of jobs."""
        if self.loop is None or self.loop.is_closed():
            return  # nobody waits
        self.loop.call_soon_threadsafe(self.settle, jobs, outputs)

    def settle(self, jobs: Sequence[Job], outputs: Sequence[Any]) -> None:
        """Hand out outputs and errors."""
        for job, output in zip(jobs, outputs, strict=True):
            if job.settled:
                continue
            job.settled = True
            job.inputs = {}
            self.unfinished -= 1
            if job.future.done():
                continue
            if isinstance(output, Exception) and not isinstance(output, InvalidInputError):
                job.future.set_exception(output)
                job.future.exception()  # those who wait will raise it; when none do, that is no fault
            else:
                job.future.set_result(output)

    def close(self) -> None:
        """End the thread once what it runs is done."""
        with self.changed:
            self.closed = True
            self.changed.notify()
        if self.thread.is_alive():
            self.thread.join()
        self.pool.shutdown()


def yield_cores() -> None:
    """Let the calling thread run behind those that answer requests, so that these are refused or served at once."""
    if sys.platform == "linux":  # elsewhere priorities are a process's
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + 10)


def length(inputs: Inputs) -> int:
    """Elements of an item's inputs, which is what a batch of unequal items is padded to."""
    return sum(array.size for array in inputs.values())


def batches(jobs: list[Job], most: int) -> Iterator[list[Job]]:
    """Jobs sorted by length, at most `most` at a time."""
    ordered = sorted(jobs, key=lambda job: length(job.inputs))
    for start in range(0, len(ordered), most):
        yield ordered[start : start + most]


def stack(batch: list[Inputs]) -> Inputs:
    """Each input with a batch axis in front; where first axes differ, zeros are appended."""
    return {name: stack_arrays([inputs[name] for inputs in batch]) for name in batch[0]}


def stack_arrays(arrays: list[Array]) -> Array:
    """Arrays that differ at most in their first axis as one array (n, longest, ...)."""
    first = arrays[0]
    if all(array.shape == first.shape for array in arrays):
        return np.stack(arrays)
    out = np.zeros((len(arrays), max(map(len, arrays)), *first.shape[1:]), dtype=first.dtype)
    for row, array in zip(out, arrays, strict=True):
        row[: len(array)] = array
    return out
