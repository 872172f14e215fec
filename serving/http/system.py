"""The routes other than predictions: OpenAPI document and Swagger UI, health, metrics, information about the models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from functools import cache
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

import models
from serving.http.errors import error_response
from serving.inference.registry import Registry
from serving.telemetry import metrics

# Swagger UI's files come with BentoML; its own page also loads a tracker.
SWAGGER = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Tiffin: API</title>
  <link rel="stylesheet" href="./static_content/swagger-ui.css">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="./static_content/swagger-ui-bundle.js"></script>
  <script>
    SwaggerUIBundle({ url: "./docs.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true });
  </script>
</body>
</html>
"""


def system_routes(
    ready: Callable[[], bool], document: Callable[[], dict[str, Any]], schema: Callable[[], dict[str, Any]]
) -> list[Route]:
    """Return the public GET routes.

    `ready` returns whether the server is ready, `document` the OpenAPI document and `schema` what BentoML's clients
    ask for.
    """

    @cache
    def docs() -> Response:
        return json_response(document())

    async def docs_endpoint(_: Request) -> Response:
        return docs()

    async def swagger(_: Request) -> Response:
        return HTMLResponse(SWAGGER)

    async def health(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def readiness(_: Request) -> Response:
        if ready():
            return json_response({"status": "ready"})
        error = "the models are still loading, or the server is ending"
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, error, headers={"Retry-After": "1"})

    @cache
    def schema_response() -> Response:
        return json_response(schema())

    async def schema_endpoint(_: Request) -> Response:
        return schema_response()

    exposing: asyncio.Task[bytes] | None = None

    async def metrics_endpoint(_: Request) -> Response:
        # One at a time: requests that come meanwhile get the same.
        nonlocal exposing
        if exposing is None or exposing.done():
            exposing = asyncio.create_task(run_in_threadpool(metrics.exposition))
        content = await asyncio.shield(exposing)
        return PlainTextResponse(content, media_type="text/plain; version=0.0.4")

    endpoints = {
        "/docs": swagger,
        "/docs.json": docs_endpoint,
        "/schema.json": schema_endpoint,
        "/health": health,
        "/healthz": health,
        "/livez": health,
        "/readyz": readiness,
        "/metrics": metrics_endpoint,
    }
    return [Route(path, endpoint, name=path) for path, endpoint in endpoints.items()]


def static_files(app: ASGIApp) -> Route:
    """Return the route to the files of Swagger UI, which BentoML's app serves; metrics count them all as `other`."""
    return Route("/static_content/{path:path}", app, methods=["GET"], name="other")


def info_routes(names: Iterable[str], registry: Registry, admission: list[Middleware]) -> list[Route]:
    """Return the GET routes with information about each model, and about each version of it."""

    def info(name: str) -> list[Route]:
        described = schemas(name)

        async def endpoint(request: Request) -> Response:
            loaded = registry.get(name, request.path_params.get("version"))
            return json_response({**loaded.info, "versions": registry.versions(name), **described})

        paths = (f"/{name}/info", f"/{name}/versions/{{version}}/info")
        return [Route(path, endpoint, name=path, middleware=admission) for path in paths]

    return [route for name in names for route in info(name)]


def schemas(name: str) -> dict[str, Any]:
    """Return a model's columns, and the JSON schemas of what its predict takes and answers, as declared here."""
    predict = predict_of(name)
    model = models.find(name)
    return {
        "inputs": [column.described() for column in model.inputs],
        "outputs": [column.described() for column in model.outputs],
        "input_schema": predict.request.model_json_schema(),
        "output_schema": predict.response.model_json_schema(),
    }


def predict_of(name: str) -> models.model.Route:
    """Return a model's predict route, which every model has."""
    return next(route for route in models.find(name).routes() if route.name == "predict")


def json_response(content: Any) -> Response:
    """Return a JSON response; values that JSON does not know, such as times, become text."""
    return Response(json.dumps(content, default=str), media_type="application/json")
