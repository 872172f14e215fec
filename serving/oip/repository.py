"""The model repository: which versions of the models the store has, and loading and unloading them while serving."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from serving.inference.errors import UnknownModelError
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.oip.errors import ProtocolError
from serving.oip.metadata import repository_index
from serving.telemetry import metrics

# How long a version that is being unloaded may go on to answer the requests that it has, and how often that is checked.
DRAIN_SECONDS = 60.0
CHECK_SECONDS = 0.1
VERSION = "version"

Result = TypeVar("Result")
log = logging.getLogger("tiffin.repository")


class Repository:
    """The versions of the models that are served; `names` are all that may be loaded.

    `stored` returns the versions in the store, oldest first; `load` loads one and has it answer its example. `refusal`
    says why models cannot be loaded, or is empty. `on_change` is called after what is loaded has changed.
    """

    def __init__(
        self,
        registry: Registry,
        names: list[str],
        stored: Callable[[], list[ModelId]],
        load: Callable[[ModelId], Awaitable[Predictor]],
        refusal: str,
    ) -> None:
        self.registry = registry
        self.names = names
        self.stored = stored
        self.load_version = load
        self.refusal = refusal
        self.on_change: Callable[[], None] = lambda: None
        self.lock = asyncio.Lock()
        self.tasks: set[asyncio.Task[Any]] = set()

    async def index(self, *, ready: bool = False) -> list[dict[str, Any]]:
        """Return the state of each version, only of those that are loaded where `ready`."""
        stored = [] if ready else await asyncio.to_thread(self.stored)
        return repository_index(self.registry, stored)

    async def load(self, name: str, version: str | None = None) -> ModelId:
        """Load a version of a model, by default the newest in the store, beside those that are loaded.

        Of the loaded versions the newest is the default. Raises ProtocolError where models cannot be loaded, and
        UnknownModelError where the store has no such version.
        """
        self.check(name)
        return await self.finished(self.load_now(name, version))

    async def load_now(self, name: str, version: str | None) -> ModelId:
        """Load a version once no other is being loaded or unloaded."""
        async with self.lock:
            stored = await asyncio.to_thread(self.of_model, name)
            wanted = stored[-1] if version is None and stored else ModelId(name, version or "")
            if wanted not in stored:
                raise UnknownModelError(f"the model store has no {name}" + (f":{version}" if version else ""))
            if wanted not in self.registry:
                self.registry.add(await self.load_version(wanted))
            self.registry.set_default(name, stored)
            self.on_change()
            log.info("loaded %s", wanted)
            return wanted

    async def unload(self, name: str, version: str | None = None) -> None:
        """Unload a version of a model, by default all, once it has answered the requests that it has.

        Raises ProtocolError where models cannot be unloaded, and UnknownModelError where none is loaded.
        """
        self.check(name)
        async with self.lock:
            stored = await asyncio.to_thread(self.of_model, name)
            self.registry.get(name, version)
            versions = self.registry.versions(name) if version is None else [version]
            removed = [self.registry.remove(ModelId(name, version)) for version in versions]
            self.registry.set_default(name, stored)
            self.on_change()
        for unloaded in versions:
            log.info("unloaded %s", ModelId(name, unloaded))
            metrics.model_info.labels(name, str(ModelId(name, unloaded))).set(0)
        draining = drain(removed)
        del removed
        await self.finished(draining)

    async def finished(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that goes on where the request for it is given up: a large model takes longer to load."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return await asyncio.shield(task)

    def check(self, name: str) -> None:
        """Raise ProtocolError where models cannot be loaded and unloaded, UnknownModelError for a name of none."""
        if self.refusal:
            raise ProtocolError(self.refusal)
        if name not in self.names:
            raise UnknownModelError(f"no model {name[:100]} among those to serve: {', '.join(self.names)}")

    def of_model(self, name: str) -> list[ModelId]:
        """Return the versions of a model in the store, oldest first."""
        return [found for found in self.stored() if found.name == name]


def refusal(*, allowed: bool, has_keys: bool, workers: int) -> str:
    """Return why models cannot be loaded while serving, or nothing where they can."""
    if not allowed:
        return "loading and unloading models is switched off: set TIFFIN_MODEL_CONTROL=true"
    if not has_keys:
        return "loading and unloading models needs API keys: set TIFFIN_API_KEYS or TIFFIN_API_KEYS_FILE"
    if workers > 1:
        return f"loading and unloading models needs one worker: set TIFFIN_WORKERS=1, it is {workers}"
    return ""


async def drain(removed: list[Predictor]) -> None:
    """Close predictors once they have answered the requests that they have, or after DRAIN_SECONDS.

    Whoever still answers a request by one of them refers to it. The list is emptied.
    """
    batchers = [predictor.batcher for predictor in removed]
    used = [weakref.ref(predictor) for predictor in removed]
    removed.clear()
    until = time.monotonic() + DRAIN_SECONDS
    while any(reference() is not None for reference in used) and time.monotonic() < until:
        await asyncio.sleep(CHECK_SECONDS)
        gc.collect()  # what a request leaves behind may refer to itself
    for batcher in batchers:
        batcher.close()
    batchers.clear()
    gc.collect()


def version_of(parameters: Mapping[str, Any]) -> str | None:
    """Return the version that the parameters of a request to load or unload name, if any.

    Raises ProtocolError for other parameters, with which Triton loads what is not in the store.
    """
    others = sorted(parameters.keys() - {VERSION, "unload_dependents"})
    if others:
        raise ProtocolError(f"the parameter {others[0][:100]} is not supported, only {VERSION} is")
    version = parameters.get(VERSION)
    if version is not None and not isinstance(version, str):
        raise ProtocolError("the parameter version must be text")
    return version
