"""The routes other than predictions: page, OpenAPI document, health, metrics, what is known of the models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

import models
from models.model import Route as ModelRoute
from serving.http.errors import ErrorBody, error_response
from serving.inference.registry import Registry
from serving.telemetry import metrics

# Swagger UI's files come with BentoML; its own page also loads a tracker.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Tiffin</title>
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

Document = dict[str, Any]

ERRORS = {
    "400": "The body is not valid JSON or not a valid form.",
    "401": "A valid API key is missing, where the server asks for one.",
    "408": "The body did not come in time.",
    "413": "The body is too large.",
    "415": "The body is of the wrong media type.",
    "422": "The body does not fit the schema; one entry per problem.",
    "429": "Over the rate limit; try again after `Retry-After` seconds.",
    "503": "Overloaded; try again after `Retry-After` seconds.",
    "504": "Not answered in time.",
}

SECONDS = {"type": "integer", "minimum": 1}
RETRY_AFTER = {"Retry-After": {"description": "Seconds after which to try again.", "schema": SECONDS}}
COUNT = {"type": "integer", "minimum": 0}
# Headers of errors, by status.
HEADERS: dict[str, Document] = {
    "401": {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}},
    "429": RETRY_AFTER
    | {
        "RateLimit-Limit": {"description": "Requests that a window of time has.", "schema": COUNT},
        "RateLimit-Remaining": {"description": "Those that are left of it.", "schema": COUNT},
        "RateLimit-Reset": {"description": "Seconds until the next window.", "schema": SECONDS},
    },
    "503": RETRY_AFTER,
}
# How a key is sent, where the server asks for one; either way will do.
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

DESCRIPTION = "Trained models of different kinds, served by one Bento. Errors are `{error, detail}` on every route."


def system_app(
    registry: Registry,
    names: list[str],
    ready: Callable[[], bool],
    document: Callable[[], Document],
    schema: Callable[[], Document],
    secured: bool = False,
) -> Starlette:
    """Return the ASGI app with the GET routes.

    `ready` returns whether the server is ready, `document` BentoML's OpenAPI document and `schema` what BentoML's
    clients ask for; `secured`: keys are needed.
    """

    def info(name: str) -> Route:
        described = schemas(name)

        async def endpoint(_: Request) -> Response:
            return json_response({**registry.get(name).info, **described})

        return Route(f"/{name}/info", endpoint)

    @cache
    def docs() -> Response:
        return json_response(complete(document(), names, secured))

    async def docs_endpoint(_: Request) -> Response:
        return docs()

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE)

    async def health(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def readiness(_: Request) -> Response:
        if ready():
            return json_response({"status": "ready"})
        return error_response(HTTPStatus.SERVICE_UNAVAILABLE, "the models are still loading, or the server is ending")

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

    return Starlette(
        routes=[
            *(Route(path, page) for path in ("/", "/docs")),
            Route("/docs.json", docs_endpoint),
            Route("/schema.json", schema_endpoint),
            *(Route(path, health) for path in ("/health", "/healthz", "/livez")),
            Route("/readyz", readiness),
            Route("/metrics", metrics_endpoint),
            *(info(name) for name in names),
        ]
    )


def predict_of(name: str) -> ModelRoute:
    """Return a model's predict route, which every model has."""
    return next(route for route in models.find(name).routes() if route.name == "predict")


def schemas(name: str) -> Document:
    """Return a model's columns, and the JSON schemas of what its predict takes and answers, as declared here."""
    predict = predict_of(name)
    model = models.find(name)
    return {
        "inputs": [column.described() for column in model.inputs],
        "outputs": [column.described() for column in model.outputs],
        "input_schema": predict.request.model_json_schema(),
        "output_schema": predict.response.model_json_schema(),
    }


def json_response(content: Any) -> Response:
    """Return a JSON response; values that JSON does not know, such as times, become text."""
    return Response(json.dumps(content, default=str), media_type="application/json")


def complete(document: Document, names: list[str], secured: bool) -> Document:
    """Add the errors of the edge and the routes of `system_app` to BentoML's OpenAPI document; group it by model."""
    # BentoML derives a class of this name from each of our schemas; through JSON, statuses become text.
    document = json.loads(json.dumps(document).replace("IODescriptor", ""))
    schemas = document["components"]["schemas"]
    for unused in ("TaskStatusResponse", "InvalidArgument", "NotFound", "InternalServerError"):
        del schemas[unused]
    error = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= error.pop("$defs")
    schemas["ErrorBody"] = error
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
    errors: Document = {status: {"description": text, "content": content} for status, text in ERRORS.items()}
    for status, headers in HEADERS.items():
        errors[status]["headers"] = headers
    for path, methods in document["paths"].items():
        if "post" in methods:
            post = methods["post"]
            post["responses"] = {"200": post["responses"]["200"]} | errors
            post["tags"] = [path.split("/")[1]]
            post["summary"] = post.pop("description")
    for name in names:
        add_example(document["paths"][f"/{name}/predict"]["post"], name)
        info = get_path(name, f"What is known of the model {name}.")
        info["get"]["responses"] |= {status: errors[status] for status in ("401", "429")}
        document["paths"][f"/{name}/info"] = info
    document["paths"]["/health"] = get_path("Infrastructure", "200 while the server is alive.")
    document["tags"] = [{"name": name} for name in [*names, "Infrastructure"]]
    if secured:
        document["components"]["securitySchemes"] = SCHEMES
        for path, methods in document["paths"].items():
            if path.split("/")[1] in names:
                for operation in methods.values():
                    operation["security"] = [{scheme: []} for scheme in SCHEMES]
    version = document["info"]["version"].replace("None", "development")  # that of the Bento
    document["info"] = {"title": "Tiffin", "version": version, "description": DESCRIPTION}
    return document


def add_example(post: Document, name: str) -> None:
    """Add a model's input example to its predict, where that is what it takes and its schema has none."""
    model = models.find(name)
    content = post["requestBody"]["content"].get("application/json")
    if content is not None and predict_of(name).request is model.input and model.input_example is not None:
        content["schema"].setdefault("example", model.input_example)


def get_path(tag: str, summary: str) -> Document:
    """Return the OpenAPI entry of a GET route that answers with a JSON object."""
    answer = {"description": "JSON object", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"get": {"tags": [tag], "summary": summary, "responses": {"200": answer}}}
