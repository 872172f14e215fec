"""BentoML's API methods for the routes that the models declare, and for each model's `infer`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.exceptions import ServiceUnavailable
from pydantic import AfterValidator, ConfigDict, FailFast, Field, create_model
from pydantic_core import PydanticCustomError
from starlette.responses import Response

import models
from models.model import InvalidInputError, Route
from serving.http.routes import respond
from serving.http.surrogates import replace_halves
from serving.http.uploads import routes_of
from serving.inference import context
from serving.inference.context import own_context
from serving.inference.errors import ModelFaultError, OverloadedError
from serving.inference.predictor import BLOCK_ROWS
from serving.inference.service import InferenceService
from serving.telemetry import tracing


class Answers:
    """The part of a service that its API methods use."""

    inference: InferenceService


def api_methods(names: Iterable[str], timeout_seconds: float) -> dict[str, Any]:
    """Return the API methods `<model>_<route>` and `<model>_infer` of each model, by name.

    They are meant for a class derived from Answers.
    """
    methods = {}
    for name in names:
        for route in routes_of(name):
            methods[f"{name}_{route.name}"] = route_method(name, route, timeout_seconds)
        methods[f"{name}_infer"] = infer_method(name, timeout_seconds)
    return methods


def route_method(name: str, route: Route, timeout_seconds: float) -> Any:
    """Return the API method for `POST /<model>/<route>`."""

    async def method(self: Answers, **fields: Any) -> Response:
        return await respond(
            self.inference.registry.get(name), route, route.request.model_construct(**fields), timeout_seconds
        )

    method.__name__ = f"{name}_{route.name}"
    method.__doc__ = route.summary
    return bentoml.api(method, route=f"/{name}/{route.name}", input_spec=route.request, output_spec=route.response)


def infer_body(name: str) -> Callable[[bytes], bytes]:
    """Return a function that rewrites the JSON body of a model's infer for BentoML to parse."""
    model = models.find(name)

    def rewrite(body: bytes) -> bytes:
        return model.without_unread(replace_halves(body))

    return rewrite


def infer_method(name: str, timeout_seconds: float) -> Any:
    """Return the API method for `POST /<model>/infer`, behind BentoML's own batching."""
    model = models.find(name)
    items = Annotated[list[model.input], Field(min_length=1, max_length=model.max_items), FailFast()]  # type: ignore[name-defined]
    example: dict[str, Any] = {} if model.input_example is None else {"example": {"items": [model.input_example]}}
    request = create_model(
        f"{model.__name__}Items",
        __config__=ConfigDict(json_schema_extra=example),
        __module__=__name__,
        items=(items, ...),
    )

    async def method(self: Answers, items: Any) -> Any:
        # These are the items of several requests; BentoML's task for them keeps the context of its first request ever.
        context.current.set(None)
        try:
            with tracing.detached():
                # Converting ten thousand rows, or files, takes long.
                slow = len(items) >= BLOCK_ROWS or model.input is Path
                convert = asyncio.to_thread(model.items_of, items) if slow else None
                converted = model.items_of(items) if convert is None else await convert
                outputs = await self.inference.infer(name, converted, own_context(timeout_seconds))
        except OverloadedError as error:
            raise ServiceUnavailable("overloaded") from error
        except TimeoutError:
            raise
        except Exception as error:
            raise ModelFaultError(f"{name} failed to answer infer") from error
        return [output if isinstance(output, InvalidInputError) else output.tolist() for output in outputs]

    method.__name__ = f"{name}_infer"
    method.__doc__ = f"The outputs of the graph of {name}, one per item."
    method.__annotations__["return"] = list[Output]
    return bentoml.api(
        method,
        route=f"/{name}/infer",
        input_spec=request,
        batchable=True,
        max_batch_size=model.max_items,
        max_latency_ms=int(timeout_seconds * 1000),
    )


def raise_invalid(output: Any) -> Any:
    """Return an output; raise PydanticCustomError when it is an error.

    A batch holds the items of several requests. An error raised for the batch would fail them all; one
    that stands in the place of an output fails only the request that this output belongs to.
    """
    if isinstance(output, InvalidInputError):
        raise PydanticCustomError(output.kind, str(output))
    return output


Output = Annotated[Any, AfterValidator(raise_invalid)]
