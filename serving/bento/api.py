"""BentoML's API methods for the routes that the models declare, and for each model's `infer`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import bentoml
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

import models
from models.model import InvalidInputError, Route
from serving.bento.errors import StatusError
from serving.explanations import ExplanationService
from serving.http.routes import infer_request, respond
from serving.http.uploads import routes_of
from serving.inference import context
from serving.inference.context import own_context
from serving.inference.errors import ModelFaultError, OverloadedError, UnknownModelError
from serving.inference.predictor import BLOCK_ROWS
from serving.inference.service import InferenceService
from serving.telemetry import tracing


class InferenceApi:
    """Base class of a service that gives its API methods the inference service, and that for explanations."""

    inference: InferenceService
    explanations: ExplanationService


def api_methods(
    names: Iterable[str], timeout_seconds: float, pinned: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Return the API methods `<model>_<route>` and `<model>_infer` of each model, by name.

    Each version in `pinned` has an `infer` of its own, since BentoML batches the calls of a method together.
    Put them into a class derived from InferenceApi.
    """
    methods = []
    for name in names:
        methods += [route_method(name, route, timeout_seconds) for route in routes_of(name)]
        methods += [infer_method(name, timeout_seconds, version) for version in (None, *(pinned or {}).get(name, ()))]
    return {method.name: method for method in methods}


def route_method(name: str, route: Route, timeout_seconds: float) -> Any:
    """Return the API method for `POST /<model>/<route>`.

    BentoML derives its OpenAPI document and its client from it. HTTP requests go to `endpoint_of` the route instead.
    """

    async def method(self: InferenceApi, **fields: Any) -> Response:
        request = route.request.model_construct(**fields)
        return await respond(self.inference.registry.get(name), route, request, timeout_seconds, self.explanations)

    method.__name__ = f"{name}_{route.name}"
    method.__doc__ = route.summary
    return bentoml.api(method, route=f"/{name}/{route.name}", input_spec=route.request, output_spec=route.response)


def infer_path(name: str, version: str | None = None) -> str:
    """Return the path of a model's `infer`, or of one version's."""
    return f"/{name}/infer" if version is None else f"/{name}/versions/{version}/infer"


def infer_method(name: str, timeout_seconds: float, version: str | None = None) -> Any:
    """Return the API method for a model's `infer`, behind BentoML's own batching."""
    model = models.find(name)

    async def method(self: InferenceApi, items: Any) -> Any:
        # The batch mixes several requests, and BentoML's task for batches keeps the context of its very first request.
        context.current.set(None)
        try:
            with tracing.detached():
                # Converting ten thousand rows, or files, takes long.
                slow = len(items) >= BLOCK_ROWS or model.input is Path
                convert = asyncio.to_thread(model.items_of, items) if slow else None
                converted = model.items_of(items) if convert is None else await convert
                outputs = await self.inference.infer(name, converted, own_context(timeout_seconds), version)
        except (OverloadedError, UnknownModelError) as error:
            raise StatusError(error) from error
        except TimeoutError:
            raise
        except Exception as error:
            raise ModelFaultError(f"{name} failed to answer infer") from error
        return [output if isinstance(output, InvalidInputError) else output.tolist() for output in outputs]

    method.__name__ = f"{name}_infer" if version is None else re.sub(r"\W", "_", f"{name}_infer_{version}")
    method.__doc__ = f"The outputs of the graph of {name}, one per item."
    method.__annotations__["return"] = list[Output]
    return bentoml.api(
        method,
        route=infer_path(name, version),
        input_spec=infer_request(name),
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
