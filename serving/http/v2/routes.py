"""The routes of the Open Inference Protocol: server, models, inference, statistics and repository."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from pydantic import Field, create_model
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import models
from models.model import Model
from serving.http.bounds import LAYOUT_BYTES, JsonBound, json_bound
from serving.http.endpoints import Accepted
from serving.http.guards import Guards
from serving.http.system import json_response
from serving.http.v2.endpoint import TensorEndpoint
from serving.http.v2.repository import repository_endpoints
from serving.inference.errors import UnknownModelError
from serving.inference.predictor import Predictor
from serving.oip import metadata
from serving.oip.repository import Repository
from serving.oip.service import TensorInference

PROTOCOL = "v2"
# What a request has beside the elements of its tensors, for each of them and in all: names, shapes and parameters.
TENSOR_BYTES, REQUEST_BYTES = 1_024, 16_384
TENSOR_VALUES, REQUEST_VALUES = 32, 1_024


def infer_path(name: str) -> str:
    """Return the path of a model's inference."""
    return f"/v2/models/{name}/infer"


def accepted_requests(names: Iterable[str], max_body_bytes: int) -> dict[str, Accepted]:
    """Return what inference by each model accepts, by path."""
    return {infer_path(name): accepted_request(models.find(name), max_body_bytes) for name in names}


def accepted_request(model: type[Model[Any]], max_body_bytes: int) -> Accepted:
    """Return what inference by a model accepts: all rows that it may have, in JSON as wide as that may be."""
    columns: dict[str, Any] = {
        column.name: (Annotated[list[column.type], Field(max_length=model.max_items)], ...)  # type: ignore[name-defined]
        for column in model.inputs
        if column.base is not bytes
    }
    bound = json_bound(create_model("Columns", **columns)) if columns else JsonBound(0, 0)
    has_files = len(columns) < len(model.inputs)
    # Of shape [n, 1] each value may stand between brackets with lines of their own.
    size = bound.max_bytes + len(model.inputs) * (TENSOR_BYTES + model.max_items * 2 * LAYOUT_BYTES) + REQUEST_BYTES
    return Accepted(
        max_body_bytes if has_files else min(max_body_bytes, size),
        bound.max_values + len(model.inputs) * (TENSOR_VALUES + model.max_items) + REQUEST_VALUES,
        cacheable=True,
        any_media_type=True,
    )


def v2_routes(
    names: Iterable[str],
    inference: TensorInference,
    accepted: Mapping[str, Accepted],
    guards: Guards,
    repository: Repository,
    version: Callable[[], str],
    ready: Callable[[], bool],
) -> list[Route]:
    """Return the routes of the protocol; `version` returns the server's, `ready` whether it takes requests."""
    registry = inference.registry
    known = set(names)

    async def server(_: Request) -> Response:
        return json_response(metadata.server_metadata(version()))

    async def live(_: Request) -> Response:
        return json_response({"live": True})

    async def is_ready(_: Request) -> Response:
        return health({"ready": ready()})

    def predictor_of(request: Request) -> Predictor:
        name = request.path_params["model"]
        if name not in known:
            raise UnknownModelError(f"no model {name[:100]}")
        return registry.get(name, request.path_params.get("version"))

    async def model_ready(request: Request) -> Response:
        name = request.path_params["model"]
        loading = name in known and not registry.versions(name)
        return health({"name": name, "ready": not loading and bool(predictor_of(request)) and ready()})

    async def model(request: Request) -> Response:
        return json_response(metadata.model_metadata(registry, predictor_of(request)))

    async def config(request: Request) -> Response:
        return json_response(metadata.model_config(predictor_of(request)))

    async def stats(request: Request) -> Response:
        asked = predictor_of(request) if "model" in request.path_params else None
        every = "version" not in request.path_params
        return json_response(await asyncio.to_thread(metadata.statistics, registry, asked, all_versions=every))

    async def unknown(request: Request) -> Response:
        predictor_of(request)
        raise UnknownModelError("no such path")

    admission = guards.admission()
    routes = []
    for name in known:
        path = infer_path(name)
        answer = TensorEndpoint(inference, name, accepted[path].max_values)
        for written in (path, f"/v2/models/{name}/versions/{{version}}/infer"):
            routes.append(
                guards.post(written, answer, accepted[path], cached_as=path, model=(registry, name), protocol=PROTOCOL)
            )
    routes += [
        Route("/v2", server, name="/v2"),
        Route("/v2/", server, name="/v2"),  # as the specification's OpenAPI document has it
        Route("/v2/health/live", live, name="/v2/health/live"),
        Route("/v2/health/ready", is_ready, name="/v2/health/ready"),
        Route("/v2/models/stats", stats, name="/v2/models/stats", middleware=admission),
    ]
    for written in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes.append(Route(f"{written}/ready", model_ready, name=f"{written}/ready"))
        for path, endpoint in ((written, model), (f"{written}/config", config), (f"{written}/stats", stats)):
            routes.append(Route(path, endpoint, name=path, middleware=admission))
        routes.append(Route(f"{written}/infer", unknown, name=f"{written}/infer", methods=["POST"]))
    for path, command in repository_endpoints(repository).items():
        routes.append(guards.post(path, command, Accepted(REQUEST_BYTES, any_media_type=True)))
    return routes


def health(state: dict[str, Any]) -> Response:
    """Return the response that says whether the server, or a model, is ready."""
    response = json_response(state)
    if not state["ready"]:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = "1"
    return response
