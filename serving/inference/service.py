"""The engine's entry point for items from any transport."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from models.model import Array, Columns, InvalidInputError
from serving.inference.context import RequestContext
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError, UnknownModelError
from serving.inference.predictor import Predictor
from serving.inference.registry import Registry

# Errors that are the engine's own.
PASSED_ON = (OverloadedError, InvalidInputError, UnknownModelError)


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
        try:
            return await predictor.outputs(items, context)
        except PASSED_ON:
            raise
        except Exception as error:
            raise fault_of(error, predictor, len(items)) from error

    async def columns(self, predictor: Predictor, items: Collection[Any], context: RequestContext) -> Columns:
        """Return the output columns of items; raise the first InvalidInputError, with the index of its item.

        Raises what `infer` raises. A predictor that was taken out of the registry answers, too.
        """
        try:
            return predictor.model.columns(await predictor.infer(items, context))
        except PASSED_ON:
            raise
        except Exception as error:
            raise fault_of(error, predictor, len(items)) from error


def fault_of(error: Exception, predictor: Predictor, items: int) -> Exception:
    """Return the engine's error for any other."""
    if isinstance(error, TimeoutError):
        return DeadlineExceededError(str(error))
    return ModelFaultError(f"{predictor.id} failed on {items} items")
