"""A model that is being served: its store entry, its prediction cache and its batcher."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from models.model import Array, InvalidInputError, Model, check_outputs
from serving.execution_providers import PROCESSOR
from serving.inference.batcher import Batcher
from serving.inference.context import RequestContext, own_context
from serving.inference.instruction_set import instruction_set
from serving.inference.job import Job, outcome_of
from serving.inference.registry import ModelId
from serving.inference.session import open_session
from serving.telemetry import metrics, tracing

log = logging.getLogger("tiffin.predictor")

# From so many rows on, a request is cut into blocks, with a key, a future and a cache entry per block, not per row.
BLOCK_ROWS = 256
# Hashing so few bytes takes less time than handing them to a thread.
SMALL_BYTES = 2**17


class OutputCache(Protocol):
    """A cache of outputs by key."""

    @property
    def is_shared(self) -> bool:
        """Whether outputs are shared with other servers, so that a lookup has to be awaited."""

    def get(self, key: bytes) -> tuple[Array, float] | None:
        """Return the output of `key` in memory and its age in seconds, or None."""

    async def get_shared(self, keys: Collection[bytes]) -> dict[bytes, tuple[Array, float]]:
        """Return those outputs that other servers share, with their ages in seconds."""

    def put(self, key: bytes, output: Array, *, shared: bool = True) -> None:
        """Store an output; share it with other servers where `shared`."""


class NoCache:
    """A cache that stores nothing."""

    is_shared = False

    def get(self, key: bytes) -> None:
        """Return None."""

    async def get_shared(self, keys: Collection[bytes]) -> dict[bytes, tuple[Array, float]]:
        """Return no outputs."""
        return {}

    def put(self, key: bytes, output: Array, *, shared: bool = True) -> None:
        """Discard the output."""


class Predictor:
    """A model that takes known outputs from its cache and computes the others."""

    def __init__(
        self,
        model_id: ModelId,
        model: Model[Any],
        graph: Path,
        cache: OutputCache,
        threads: int,
        metadata: Mapping[str, Any] | None = None,
        *,
        provider: str = PROCESSOR,
        **queue: Any,
    ) -> None:
        self.id = model_id
        self.name = name = model_id.name
        self.model = model
        self.folder = graph.parent
        self.described = {
            "name": name,
            "version": str(model_id),
            "instruction_set": instruction_set(),
            **(metadata or {}),
        }
        self.of_files = getattr(self.model, "input", None) is Path
        self.cache = cache
        self.batcher = Batcher(model, partial(open_session, graph, provider=provider), model_id, threads, **queue)
        self.digest = blake2b(str(model_id).encode() + b"\0", digest_size=16)
        # Jobs in flight, by key; requests for equal items share them.
        self.in_flight: dict[bytes, Job] = {}
        self.lookups: set[asyncio.Task[None]] = set()
        self.memory_hits, self.memory_misses, self.redis_hits, self.redis_misses = (
            metrics.cache_lookups.labels(*model_id, tier, outcome)
            for tier in ("memory", "redis")
            for outcome in ("hit", "miss")
        )
        metrics.model_info.labels(name, str(model_id)).set(1)

    @property
    def info(self) -> dict[str, Any]:
        """What clients may know of this version, and how its batches are computed, by the pace of the last ones."""
        batcher = self.batcher
        at_a_time = batcher.threads if batcher.pace.is_long(batcher.max_batch) else 1
        batches = {"max_items": batcher.max_batch, "at_a_time": at_a_time, "threads": batcher.threads // at_a_time}
        return {**self.described, "batches": batches}

    def key(self, item: Any, *, block: bool = False) -> bytes:
        """Return the cache key of an item, or of a block of rows: a digest of the model's tag and version and of it."""
        digest = self.digest.copy()
        if block:  # a block of one row differs from that row: its output has one more axis
            digest.update(b"block\0")
        digest.update(self.model.key(item))
        return digest.digest()

    def keys(self, items: Collection[Any]) -> list[bytes]:
        """Return the cache key of each item."""
        return [self.key(item) for item in items]

    def blocks(self, items: Collection[Any]) -> list[Array] | None:
        """Cut a bulk request into blocks of at most `max_batch` rows; return None where items go one by one."""
        if len(items) < BLOCK_ROWS or not self.model.vectorized or not isinstance(items, np.ndarray):
            return None
        most = self.batcher.max_batch
        return [items[start : start + most] for start in range(0, len(items), most)]

    async def outputs(self, items: Collection[Any], request: RequestContext) -> list[Array | InvalidInputError]:
        """Return the output of each item, or the error in its place; compute equal items once.

        Raises OverloadedError when that would take too long, TimeoutError when it did.
        """
        blocks = self.blocks(items)
        if blocks is None:
            # Hashing megabytes here would hold up the other requests.
            keys = await asyncio.to_thread(self.keys, items) if self.of_files else self.keys(items)
            return await self.answers(items, keys, request)
        outputs: list[Array | InvalidInputError] = []
        for block, output in zip(blocks, await self.block_outputs(blocks, request), strict=True):
            outputs += [output] * len(block) if isinstance(output, InvalidInputError) else list(output)
        return outputs

    async def infer(self, items: Collection[Any], request: RequestContext) -> Array:
        """Return the outputs of items stacked, (n, ...); raise the first InvalidInputError."""
        blocks = self.blocks(items)
        if blocks is None:
            return np.array(valid(await self.outputs(items, request)))
        return np.concatenate(valid(await self.block_outputs(blocks, request)))

    async def block_outputs(self, blocks: Sequence[Array], request: RequestContext) -> list[Array | InvalidInputError]:
        """Return the outputs of each block, (rows, ...), or the error in their place."""

        def made() -> list[bytes]:
            return [self.key(block, block=True) for block in blocks]

        few = sum(block.nbytes for block in blocks) <= SMALL_BYTES
        keys = made() if few else await asyncio.to_thread(made)
        return await self.answers(blocks, keys, request, block=True)

    async def answers(
        self, items: Collection[Any], keys: Sequence[bytes], request: RequestContext, *, block: bool = False
    ) -> list[Array | InvalidInputError]:
        """Return the outputs of items, or of blocks, with these keys: from the cache, from jobs in flight, or new."""
        found: dict[bytes, Array | InvalidInputError] = {}
        awaited: dict[bytes, Job] = {}
        promoted: list[Job] = []
        missing: dict[bytes, Any] = {}
        for key, item in zip(keys, items, strict=True):
            if key in found or key in awaited or key in missing:
                continue
            if not request.no_cache:
                if (known := self.cache.get(key)) is not None:
                    found[key] = known[0]
                    request.age = max(request.age, known[1])
                    continue
                if (flight := self.in_flight.get(key)) is not None and not flight.future.done():
                    flight.deadline = max(flight.deadline, request.deadline)
                    awaited[key] = flight
                    if flight.priority > request.priority:
                        promoted.append(flight)
                    continue
            missing[key] = item
        if found:
            self.memory_hits.inc(len(found))
        if missing and not request.no_cache:
            self.memory_misses.inc(len(missing))
        request.hits += len(found)
        request.misses += len(awaited) + len(missing)
        if promoted:
            self.batcher.promote(promoted)
        if missing:
            awaited |= self.start(missing, request, block=block)
        if awaited:
            await outcome_of(awaited.values())
            for key, job in awaited.items():
                found[key] = job.future.result()
        return [found[key] for key in keys]

    def start(self, missing: Mapping[bytes, Any], request: RequestContext, *, block: bool) -> dict[bytes, Job]:
        """Start a job for each item, or block, that is not in memory; return them by key. Other requests may join."""
        loop = asyncio.get_running_loop()
        jobs = {
            key: Job(item, request.deadline, loop, block=block, priority=request.priority)
            for key, item in missing.items()
        }
        shared = self.cache.is_shared and not block
        if not shared or request.no_cache:
            self.batcher.enqueue(list(jobs.values()), request.deadline)
        else:
            task = loop.create_task(self.look_up(jobs, request))
            self.lookups.add(task)
            task.add_done_callback(self.lookups.discard)
        store = not request.no_store
        if not request.no_cache:
            self.in_flight |= jobs
        for key, job in jobs.items():
            job.future.add_done_callback(lambda future, key=key, job=job: self.landed(key, job, store))  # type: ignore[misc]
        return jobs

    async def look_up(self, jobs: Mapping[bytes, Job], request: RequestContext) -> None:
        """Settle jobs whose outputs Redis has, and put the others into the queue."""
        known: dict[bytes, tuple[Array, float]] = {}
        try:
            with tracing.span("cache", model=self.name, items=len(jobs)):
                known = await self.cache.get_shared(jobs)
        except Exception:  # what the cache cannot return is computed
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
                self.batcher.enqueue(rest, request.deadline)
        except Exception as error:  # mostly an overload; those who wait raise it
            for job in rest:
                job.settle(error)

    def landed(self, key: bytes, job: Job, store: bool) -> None:
        """Take a finished job out of flight, and store its output in the cache where `store`."""
        if self.in_flight.get(key) is job:
            del self.in_flight[key]
        future = job.future
        if store and not job.known and not future.cancelled() and future.exception() is None:
            output = future.result()
            if not isinstance(output, InvalidInputError):
                self.cache.put(key, output, shared=not job.block)

    async def warm_up(self) -> None:
        """Answer the model's example twice, bypassing the cache; the second time gives the batcher its pace."""
        for _ in range(2):
            request = own_context(timeout_seconds=60)
            request.no_cache = request.no_store = True
            outputs = valid(await self.outputs(self.model.example_items(), request))
            check_outputs(self.model.columns(np.stack(outputs)), self.model.outputs, len(outputs))
        self.batcher.at_once.measure(self.model.example_items())

    def close(self) -> None:
        """Stop the batcher's threads."""
        self.batcher.close()


def valid(outputs: Sequence[Array | InvalidInputError]) -> list[Array]:
    """Return outputs; raise the first error that stands in the place of one, with its index."""
    for index, output in enumerate(outputs):
        if isinstance(output, InvalidInputError):
            raise InvalidInputError(str(output), output.location, output.kind, index)
    return list(outputs)  # type: ignore[arg-type]
