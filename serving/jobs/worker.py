"""The worker of jobs: claims chunks, answers their rows as batch work, and stores the results.

`python -m serving.jobs.worker` runs one apart from the server; with a folder as job store, each of the server's
processes has one, too.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from models.model import Array, InvalidInputError
from serving.inference.context import Priority, RequestContext, own_context
from serving.inference.errors import OverloadedError, UnknownModelError
from serving.inference.predictor import Predictor
from serving.inference.registry import Registry
from serving.jobs.errors import MissingFileError, StoreUnavailableError
from serving.jobs.files import INPUT, JobFiles
from serving.jobs.job import PLAN, Claim
from serving.jobs.leases import Leases
from serving.jobs.parts import decoded, encoded
from serving.jobs.planning import NAMES, cut
from serving.tables.faults import in_file, named
from serving.telemetry import metrics, tracing

log = logging.getLogger("tiffin.jobs")

# Chunks at a time: while one is read or written, the other is computed.
SLOTS = 2
# How often a worker without work looks for some, unless it is told.
POLL_SECONDS = 1.0
# A chunk is given up after so long, and counts as failed.
CHUNK_SECONDS = 3_600.0
RETRY_SECONDS = 0.2
# How long half of a worker rests after a fault of the job store.
PAUSE_SECONDS = 2.0
# How long no further fault of it is logged: while a store is down there would be some every second.
SILENT_SECONDS = 30.0


class Worker:
    """Computes chunks of the jobs whose version of a model the registry has."""

    def __init__(self, registry: Registry, leases: Leases, files: JobFiles, max_rows: int) -> None:
        self.registry = registry
        self.leases = leases
        self.files = files
        self.max_rows = max_rows
        self.work_came = asyncio.Event()
        self.stopping = False
        self.silent_until = 0.0
        self.slots: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look for work."""
        for predictor in self.registry:  # Prometheus does not see the first step of a counter that begins at 1
            metrics.start_job_counters(*predictor.id)
        self.slots = [asyncio.create_task(self.work()) for _ in range(SLOTS)]

    def wake(self) -> None:
        """Look for work now."""
        self.work_came.set()

    def drain(self) -> None:
        """Take no more chunks."""
        self.stopping = True
        self.wake()

    async def stop(self, grace_seconds: float) -> None:
        """Finish the chunks that are being computed, or give them back after `grace_seconds`."""
        self.drain()
        if self.slots:
            _, late = await asyncio.wait(self.slots, timeout=grace_seconds)
            for slot in late:
                slot.cancel()
            await asyncio.gather(*self.slots, return_exceptions=True)

    async def work(self) -> None:
        """Compute one chunk after the other."""
        while not self.stopping:
            try:
                claim = await self.leases.claim([predictor.id for predictor in self.registry])
            except StoreUnavailableError as error:
                self.report(error)
                claim = None
            except Exception:  # a worker that ends would leave all jobs undone
                log.exception("the worker failed to look for work")
                claim = None
            if claim is not None:
                await self.attempt(claim)
                continue
            self.work_came.clear()
            try:
                await asyncio.wait_for(self.work_came.wait(), POLL_SECONDS)
            except TimeoutError:
                pass

    async def attempt(self, claim: Claim) -> None:
        """Compute a chunk, as long as its lease is held; give it back where this worker ends meanwhile."""
        computing = asyncio.create_task(self.compute(claim))
        keeping = asyncio.create_task(self.keep(claim, computing))
        try:
            await asyncio.wait([computing])
        except asyncio.CancelledError:
            computing.cancel()
            await asyncio.wait([computing])
            await self.give_back(claim)
            raise
        finally:
            keeping.cancel()
        if computing.cancelled():
            metrics.job_chunks.labels(*claim.model_id, "lost").inc()
            await self.tidy(claim)
        elif (error := computing.exception()) is not None:
            await self.settle(claim, error)
            await self.tidy(claim)
            if isinstance(error, StoreUnavailableError):  # the next chunk would not fare better
                await asyncio.sleep(PAUSE_SECONDS)

    async def keep(self, claim: Claim, computing: asyncio.Task[None]) -> None:
        """Renew a lease until it is lost, or its job was cancelled; then cancel the computation."""
        valid_until = time.monotonic() + self.leases.seconds
        while True:
            await asyncio.sleep(self.leases.seconds / 4)
            renewed = time.monotonic()
            try:
                held = await self.leases.renew(claim)
            except StoreUnavailableError as error:
                self.report(error)
                held = time.monotonic() < valid_until
            else:
                valid_until = renewed + self.leases.seconds
            if not held:
                computing.cancel()
                return

    async def settle(self, claim: Claim, error: BaseException) -> None:
        """Note that a chunk was not computed, and why; where the store does not answer, its lease will run out."""
        try:
            missing = isinstance(error, MissingFileError)
            if isinstance(error, StoreUnavailableError | UnknownModelError):
                self.report(error)
                if not missing:
                    await self.leases.release(claim)
                    return
            told = fault_of(error, claim)
            final = isinstance(error, InvalidInputError)
            if not (final or missing):
                log.error("a chunk of job %s failed", claim.job, exc_info=error)
            metrics.job_chunks.labels(*claim.model_id, "failed").inc()
            if await self.leases.fail(claim, told, final=final):
                metrics.jobs_finished.labels(*claim.model_id, "failed").inc()
        except StoreUnavailableError as failure:
            self.report(failure)

    async def give_back(self, claim: Claim) -> None:
        """Release the lease of a chunk."""
        try:
            await self.leases.release(claim)
        except StoreUnavailableError as error:
            self.report(error)

    async def tidy(self, claim: Claim) -> None:
        """Delete what was written under a lease for nothing, since nothing counts it; what remains is an orphan."""
        try:
            name = await self.leases.leftovers(claim)
            if name is not None:
                await self.files.delete(name)
        except StoreUnavailableError as error:
            self.report(error)

    async def compute(self, claim: Claim) -> None:
        """Compute a chunk: read the file and cut it into chunks, or answer the rows of one of these."""
        predictor = self.registry.get(*claim.model_id)
        with tracing.job_span("chunk", claim.trace, model=predictor.name, job=claim.job, rows=claim.rows):
            if claim.number == PLAN:
                await self.plan(claim, predictor)
                self.wake()
            else:
                await self.answer(claim, predictor)

    async def plan(self, claim: Claim, predictor: Predictor) -> None:
        """Read a job's file, and store the inputs of its chunks."""
        lost = False
        sizes: dict[int, int] = {}

        def store(number: int, columns: Any) -> None:
            if lost:
                raise StoreUnavailableError("the lease was lost")
            content = encoded(columns)
            sizes[number] = len(content)
            self.files.write(f"{claim.inputs}/{number}", content)

        with tempfile.TemporaryDirectory(prefix="tiffin-job-") as temporary:
            path = Path(temporary) / "file"
            await self.files.download(f"{claim.job}/{INPUT}", path)
            cutting = asyncio.ensure_future(asyncio.to_thread(cut, path, type(predictor.model), self.max_rows, store))
            try:
                rows = await asyncio.shield(cutting)
            except asyncio.CancelledError:
                lost = True
                await asyncio.wait([cutting])  # it reads the file
                raise
        if not await self.insist(self.leases.plan, claim, rows, sum(sizes.values())):
            await self.tidy(claim)

    async def answer(self, claim: Claim, predictor: Predictor) -> None:
        """Answer the rows of a chunk, and store the output columns."""
        model = predictor.model
        inputs = decoded(await self.files.get(f"{claim.plan}/{claim.number}"))
        names = inputs.pop(NAMES, None)
        context = own_context(CHUNK_SECONDS, Priority.BATCH)
        # They would drive what clients wait for out of the caches.
        context.no_cache = context.no_store = True
        try:
            items = await asyncio.to_thread(model.items, inputs)
            outputs = dict(model.columns(await patiently(predictor, items, context)))
        except InvalidInputError as error:
            in_job = named(in_file(error, 0, type(model)), [] if names is None else names.tolist())
            raise moved(in_job, claim.first_row) from None
        if names is not None:
            outputs["file"] = names
        result = f"{claim.job}/result-{claim.number}-{claim.token}"
        await self.files.put(result, encoded({name: np.asarray(values) for name, values in outputs.items()}))
        completed = await self.insist(self.leases.complete, claim, result)
        metrics.job_rows.labels(*claim.model_id).inc(claim.rows)
        metrics.job_chunks.labels(*claim.model_id, "done").inc()
        if completed:
            metrics.jobs_finished.labels(*claim.model_id, "completed").inc()

    async def insist(self, note: Any, *arguments: Any) -> Any:
        """Note something in the database, again and again while it does not answer; the end of the lease ends that."""
        while True:
            try:
                return await note(*arguments)
            except StoreUnavailableError as error:
                self.report(error)
                await asyncio.sleep(RETRY_SECONDS)

    def report(self, error: StoreUnavailableError | UnknownModelError) -> None:
        """Count a fault of the job store, and log it unless one has been logged lately."""
        metrics.job_store_errors.inc()
        if time.monotonic() >= self.silent_until:
            self.silent_until = time.monotonic() + SILENT_SECONDS
            log.warning("%s", error)


async def patiently(predictor: Predictor, items: Any, context: RequestContext) -> Array:
    """Return the outputs of items, stacked, which wait as long as the queue is full."""
    while True:
        try:
            return await predictor.infer(items, context)
        except OverloadedError:
            await asyncio.sleep(RETRY_SECONDS)


def fault_of(error: BaseException, claim: Claim) -> dict[str, Any]:
    """Return what clients are told of an error, as an error's body has it."""
    if isinstance(error, InvalidInputError):
        detail = {"loc": list(error.location), "msg": str(error), "type": error.kind}
        return {"error": "invalid request: 1 problem", "detail": [detail]}
    if isinstance(error, MissingFileError):
        return {"error": "the job store has lost a file of the task: submit it again", "detail": []}
    where = "the file" if claim.number == PLAN else f"rows {claim.first_row} to {claim.first_row + claim.rows - 1}"
    return {"error": f"internal error at {where}", "detail": []}


def moved(error: InvalidInputError, rows: int) -> InvalidInputError:
    """Return an error of a chunk's row as one of the file's, which has so many rows before the chunk."""
    location = tuple(part + rows if isinstance(part, int) else part for part in error.location)
    return InvalidInputError(str(error), location, error.kind)


if __name__ == "__main__":
    from serving.bento.start import link_packed_models

    link_packed_models()
    from serving.bento.job_worker import main

    main()
