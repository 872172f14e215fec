"""Loading of models from BentoML's store, by the settings of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import bentoml

import models
from serving.bento.store import created
from serving.inference.predictor import OutputCache, Predictor
from serving.inference.registry import ModelId
from serving.settings import Settings


async def load_all(stored: Iterable[bentoml.Model], cache: OutputCache, settings: Settings) -> list[Predictor]:
    """Load the models of store entries beside each other; return them in this order."""
    async with asyncio.TaskGroup() as group:
        loading = [group.create_task(loaded(entry, cache, settings)) for entry in stored]
    return [task.result() for task in loading]


async def loaded(stored: bentoml.Model, cache: OutputCache, settings: Settings) -> Predictor:
    """Load the model of a store entry and have it answer once."""
    own = settings.of(stored.tag.name)
    predictor = await asyncio.to_thread(
        load,
        stored,
        cache,
        own.session_threads,
        queue_items=own.queue_items,
        queue_seconds=own.queue_seconds,
        linger_seconds=own.linger_seconds,
        batch_share=own.batch_share,
        max_batch=own.max_batch,
        niceness=settings.niceness,
        provider=settings.execution_provider,
    )
    try:
        await predictor.warm_up()
    except Exception as error:
        raise RuntimeError(f"{predictor.id} failed to answer its own example: {error}") from error
    return predictor


def load(stored: bentoml.Model, cache: OutputCache, threads: int, **queue: Any) -> Predictor:
    """Load the model of a store entry into a predictor."""
    folder = Path(stored.path)
    model_id = ModelId(stored.tag.name, str(stored.tag.version))
    model = models.find(model_id.name)(folder)
    return Predictor(model_id, model, folder / "model.onnx", cache, threads, stored.info.metadata, **queue)


def versions(names: Iterable[str]) -> list[ModelId]:
    """Return the versions of models in the store, those of a model from the oldest to the newest."""
    found = [stored for name in names for stored in bentoml.models.list(name)]
    return [ModelId(stored.tag.name, str(stored.tag.version)) for stored in sorted(found, key=created)]
