"""A model that is being served: its store entry, its prediction cache and its runner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from bentoml.exceptions import NotFound

import models
from models.model import Array, InvalidInputError
from serving.caching.memory import PredictionCache
from serving.inference.batcher import Runner
from serving.inference.context import RequestContext, own_context
from serving.inference.instruction_set import instruction_set
from serving.inference.queue import Job
from serving.telemetry import metrics, tracing

log = logging.getLogger("tiffin.predictor")

# From so many rows on a request's rows are cut into blocks: a key, a future, a cache entry each, not one per row.
BLOCK_ROWS = 256


class ModelMissingError(RuntimeError):
    """The model store has no entry for a model that is to be served."""


class Predictor:
    """Answers a model's items, from the cache where they are known."""

    def __init__(self, name: str, stored: bentoml.Model, cache: PredictionCache, threads: int, **queue: Any) -> None:
        folder = Path(stored.path)
        self.name = name
        self.tag = str(stored.tag)
        self.model = models.find(name)(folder)
        self.info = {"name": name, "version": self.tag, "instruction_set": instruction_set(), **stored.info.metadata}
        self.of_files = getattr(self.model, "input", None) is Path
        self.cache = cache
        self.runner = Runner(self.model, folder / "model.onnx", name, threads, **queue)
        self.digest = blake2b(self.tag.encode() + b"\0", digest_size=16)
        # What is being computed, by key, for all who ask for it meanwhile.
        self.flights: dict[bytes, Job] = {}
        self.lookups: set[asyncio.Task[None]] = set()
        self.memory_hits, self.memory_misses, self.redis_hits, self.redis_misses = (
            metrics.cache_lookups.labels(name, tier, outcome)
            for tier in ("memory", "redis")
            for outcome in ("hit", "miss")
        )
        metrics.model_info.labels(name, self.tag).set(1)

    def key(self, item: Any, *, block: bool = False) -> bytes:
        """Cache key of an item, or of a block of rows: a digest of the model's tag with its version and of the item."""
        digest = self.digest.copy()
        if block:  # a block of one row is not that row, since its output has an axis more
            digest.update(b"block\0")
        digest.update(self.model.key(item))
        return digest.digest()

    def keys(self, items: Collection[Any]) -> list[bytes]:
        """The cache keys of items."""
        return [self.key(item) for item in items]

    def blocks(self, items: Collection[Any]) -> list[Array] | None:
        """The blocks of at most `max_batch` rows into which a bulk request is cut; None for items one by one."""
        if len(items) < BLOCK_ROWS or not self.model.vectorized or not isinstance(items, np.ndarray):
            return None
        most = self.runner.max_batch
        return [items[start : start + most] for start in range(0, len(items), most)]

    async def outputs(self, items: Collection[Any], request: RequestContext) -> list[Array | InvalidInputError]:
        """The output of each item, or why it has none; equal items are computed once.

        Raises OverloadedError when it would take too long, TimeoutError when it did.
        """
        blocks = self.blocks(items)
        if blocks is None:
            # A digest of megabytes would hold up the other requests.
            keys = await asyncio.to_thread(self.keys, items) if self.of_files else self.keys(items)
            return await self.answers(items, keys, request)
        outputs: list[Array | InvalidInputError] = []
        for block, output in zip(blocks, await self.block_outputs(blocks, request), strict=True):
            outputs += [output] * len(block) if isinstance(output, InvalidInputError) else list(output)
        return outputs

    async def infer(self, items: Collection[Any], request: RequestContext) -> Array:
        """The outputs stacked, (n, ...); raises the first InvalidInputError."""
        blocks = self.blocks(items)
        if blocks is None:
            return np.stack([valid(output) for output in await self.outputs(items, request)])
        return np.concatenate([valid(output) for output in await self.block_outputs(blocks, request)])

    async def block_outputs(self, blocks: Sequence[Array], request: RequestContext) -> list[Array | InvalidInputError]:
        """The outputs of each block, (rows, ...), or why it has none."""
        keys = await asyncio.to_thread(lambda: [self.key(block, block=True) for block in blocks])
        return await self.answers(blocks, keys, request, block=True)

    async def answers(
        self, items: Collection[Any], keys: Sequence[bytes], request: RequestContext, *, block: bool = False
    ) -> list[Array | InvalidInputError]:
        """The outputs of items, or of blocks, that have these keys: known, being computed for others, or computed."""
        found: dict[bytes, Array | InvalidInputError] = {}
        awaited: dict[bytes, Job] = {}
        missing: dict[bytes, Any] = {}
        for key, item in zip(keys, items, strict=True):
            if key in found or key in awaited or key in missing:
                continue
            if not request.no_cache:
                if (known := self.cache.get(key)) is not None:
                    found[key] = known[0]
                    request.age = max(request.age, known[1])
                    continue
                if (flight := self.flights.get(key)) is not None and not flight.future.done():
                    flight.deadline = max(flight.deadline, request.deadline)
                    awaited[key] = flight
                    continue
            missing[key] = item
        if found:
            self.memory_hits.inc(len(found))
        if missing and not request.no_cache:
            self.memory_misses.inc(len(missing))
        request.hits += len(found)
        request.misses += len(awaited) + len(missing)
        if missing:
            awaited |= self.start(missing, request, block=block)
        if awaited:
            await outcome_of(awaited.values())
            for key, job in awaited.items():
                found[key] = job.future.result()
        return [found[key] for key in keys]

    def start(self, missing: Mapping[bytes, Any], request: RequestContext, *, block: bool) -> dict[bytes, Job]:
        """Jobs for items, or blocks, that are not in memory, by key, which others may join."""
        loop = asyncio.get_running_loop()
        jobs = {key: Job(item, request.deadline, loop, block=block) for key, item in missing.items()}
        shared = self.cache.redis is not None and not block
        if not shared or request.no_cache:
            self.runner.enqueue(list(jobs.values()), request.deadline)
        else:
            task = loop.create_task(self.look_up(jobs, request))
            self.lookups.add(task)
            task.add_done_callback(self.lookups.discard)
        if not request.no_cache:
            self.flights |= jobs
        store = not request.no_store
        for key, job in jobs.items():
            job.future.add_done_callback(lambda future, key=key, job=job: self.landed(key, job, store))  # type: ignore[misc]
        return jobs

    async def look_up(self, jobs: Mapping[bytes, Job], request: RequestContext) -> None:
        """Ask Redis for the outputs of jobs, and put those that it does not have into the queue."""
        known: dict[bytes, tuple[Array, float]] = {}
        try:
            with tracing.span("cache", model=self.name, items=len(jobs)):
                known = await self.cache.get_shared(jobs)
        except Exception:  # what the cache cannot say is computed
            log.exception("looking up outputs of %s in Redis failed", self.name)
        self.redis_hits.inc(len(known))
        self.redis_misses.inc(len(jobs) - len(known))
        for key, (output, age) in known.items():
            jobs[key].known = True
            request.age = max(request.age, age)
            jobs[key].settle(output)
        request.hits += len(known)
        request.misses -= len(known)
        rest = [job for key, job in jobs.items() if key not in known]
        try:
            if rest:
                self.runner.enqueue(rest, request.deadline)
        except Exception as error:  # of an overload, mostly; those who wait raise it
            for job in rest:
                job.settle(error)

    def landed(self, key: bytes, job: Job, store: bool) -> None:
        """What was computed is kept."""
        if self.flights.get(key) is job:
            del self.flights[key]
        future = job.future
        if store and not job.known and not future.cancelled() and future.exception() is None:
            output = future.result()
            if not isinstance(output, InvalidInputError):
                self.cache.put(key, output, shared=not job.block)

    async def warm_up(self) -> None:
        """Answer the model's example, past the cache; the second time tells the runner its pace."""
        for _ in range(2):
            request = own_context(timeout_seconds=60)
            request.no_cache = request.no_store = True
            for output in await self.outputs(self.model.example_items(), request):
                valid(output)

    def close(self) -> None:
        """End the runner's thread."""
        self.runner.close()


async def outcome_of(jobs: Collection[Job]) -> None:
    """Wait until the jobs are done; a job for which nobody waits any more is cancelled."""
    for job in jobs:
        job.waiters += 1
    try:
        # Awaiting a future itself would cancel it for all when one of those who wait is cancelled.
        await asyncio.wait([job.future for job in jobs])
    finally:
        for job in jobs:
            job.waiters -= 1
            if not job.waiters:
                job.future.cancel()  # without effect on what is done


def valid(output: Array | InvalidInputError) -> Array:
    """The output; raises the error that stands in its place."""
    if isinstance(output, InvalidInputError):
        raise output
    return output


def stored_model(name: str, bento: bentoml.Bento | None) -> bentoml.Model:
    """The store entry of a model: the version packed in the Bento that is served, else the latest."""
    packed = {model.tag.name: model.tag for model in bento.info.all_models} if bento else {}
    try:
        return bentoml.models.get(packed.get(name, name))
    except NotFound as error:
        raise ModelMissingError(f"the model store has no {name!r}; make it with: python -m training {name}") from error
