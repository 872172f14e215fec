"""Loading of the models that a process serves, by its settings."""

from __future__ import annotations

import asyncio

import bentoml

from serving.bento import store
from serving.inference.predictor import OutputCache, Predictor
from serving.settings import Settings


async def loaded(stored: bentoml.Model, cache: OutputCache, settings: Settings) -> Predictor:
    """Load the model of a store entry and have it answer once."""
    own = settings.of(stored.tag.name)
    predictor = await asyncio.to_thread(
        store.load,
        stored,
        cache,
        own.session_threads,
        queue_items=own.queue_items,
        queue_seconds=own.queue_seconds,
        linger_seconds=own.linger_seconds,
        batch_share=own.batch_share,
        max_batch=own.max_batch,
        provider=settings.execution_provider,
    )
    try:
        await predictor.warm_up()
    except Exception as error:
        raise RuntimeError(f"{predictor.id} failed to answer its own example: {error}") from error
    return predictor
