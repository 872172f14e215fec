"""The engine's entry point for items from any transport."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from models.model import Array, InvalidInputError
from serving.inference.context import RequestContext
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError
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
        try:
            return await predictor.outputs(items, context)
        except OverloadedError:
            raise
        except TimeoutError as error:
            raise DeadlineExceededError(str(error)) from error
        except Exception as error:
            raise ModelFaultError(f"{predictor.id} failed on {len(items)} items") from error
