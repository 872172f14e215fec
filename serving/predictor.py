"""A model that is being served: its store entry, its prediction cache and its runner."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
from bentoml.exceptions import NotFound

import models
from models.model import Array, InvalidInputError
from serving import metrics
from serving.cache import MemoryCache
from serving.runner import Runner


class ModelMissingError(RuntimeError):
    """The model store has no entry for a model that is to be served."""


class Predictor:
    """Answers a model's items, from the cache where they are known."""

    def __init__(self, name: str, stored: bentoml.Model, cache: MemoryCache, threads: int) -> None:
        folder = Path(stored.path)
        self.name = name
        self.tag = str(stored.tag)
        self.model = models.find(name)(folder)
        self.info = {"name": name, "version": self.tag, **stored.info.metadata}
        self.cache = cache
        self.runner = Runner(self.model, folder / "model.onnx", name, threads)
        self.digest = blake2b(self.tag.encode() + b"\0", digest_size=16)
        self.hits = metrics.cache_lookups.labels(name, "hit")
        self.misses = metrics.cache_lookups.labels(name, "miss")

    def key(self, item: Any) -> bytes:
        """Cache key of an item: a digest of the model's tag with its version and of the item."""
        digest = self.digest.copy()
        digest.update(self.model.key(item))
        return digest.digest()

    async def outputs(self, items: Collection[Any]) -> list[Array | InvalidInputError]:
        """The output of each item, or why it has none; equal items are computed once."""
        keys = [self.key(item) for item in items]
        found: dict[bytes, Array | InvalidInputError] = {}
        missing: dict[bytes, Any] = {}
        for key, item in zip(keys, items, strict=True):
            if key in found or key in missing:
                continue
            known = self.cache.get(key)
            if known is None:
                missing[key] = item
            else:
                found[key] = known
        self.hits.inc(len(found))
        self.misses.inc(len(missing))
        if missing:
            for key, output in zip(missing, await self.runner.run(list(missing.values())), strict=True):
                found[key] = output
                if not isinstance(output, InvalidInputError):
                    self.cache.put(key, output)
        return [found[key] for key in keys]

    async def infer(self, items: Collection[Any]) -> Array:
        """The outputs stacked, (n, ...); raises the first InvalidInputError."""
        return np.stack([valid(output) for output in await self.outputs(items)])

    async def warm_up(self) -> None:
        """Answer the model's example once, past the cache."""
        for output in await self.runner.run(self.model.example_items()):
            valid(output)

    def close(self) -> None:
        """Release the session's thread."""
        self.runner.close()


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
