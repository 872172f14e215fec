"""The engine's entry point for items from any transport."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from models.model import Array, Columns, InvalidInputError
from serving.inference.context import RequestContext
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError, UnknownModelError
from serving.inference.predictor import Predictor
from serving.inference.registry import Registry


class InferenceService:
    """Inference by the models of a registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    async def infer(
        self, name: str, items: Collection[Any], context: RequestContext, version: str | None = None
    ) -> list[Array | InvalidInputError]:
        """Return the graph's output for each item, or the error in its place, in the items' order.

        Raises UnknownModelError, OverloadedError, DeadlineExceededError, or ModelFaultError where the model fails.
        """
        predictor = self.registry.get(name, version)
        with faults(predictor, len(items)):
            return await predictor.outputs(items, context)

    async def columns(self, predictor: Predictor, items: Collection[Any], context: RequestContext) -> Columns:
        """Return the output columns of items; raise the first InvalidInputError, with the index of its item.

        Raises what `infer` raises. A predictor that was taken out of the registry answers, too.
        """
        with faults(predictor, len(items)):
            return predictor.model.columns(await predictor.infer(items, context))


@contextmanager
def faults(predictor: Predictor, items: int) -> Iterator[None]:
    """Raise the engine's errors for those of the code inside."""
    try:
        yield
    except (OverloadedError, InvalidInputError, UnknownModelError):
        raise
    except TimeoutError as error:
        raise DeadlineExceededError(str(error)) from error
    except Exception as error:
        raise ModelFaultError(f"{predictor.id} failed on {items} items") from error
