"""The OpenAPI document: what BentoML derives from the schemas, with what the middlewares add to it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import models
from serving.explanations import kind_of
from serving.http.aliases import aliases_of
from serving.http.endpoints import Accepted
from serving.http.errors import ErrorBody
from serving.http.explanations import PNG
from serving.http.jobs import openapi as jobs
from serving.http.middleware.text_answer import PARAMETER, VALUES
from serving.http.routes import may_be_text
from serving.http.system import predict_of
from serving.http.v2 import openapi as v2
from serving.inference.registry import Registry

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

ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
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


def complete(
    document: Document,
    names: Iterable[str],
    registry: Registry,
    accepted: Mapping[str, Accepted],
    *,
    accepted_v2: Mapping[str, Accepted] | None = None,
    has_jobs: bool = False,
    root_path: str = "",
    default_model: str | None = None,
    secured: bool = False,
) -> Document:
    """Add to BentoML's OpenAPI document errors, bounds of bodies, `info` and versions of each model.

    `accepted_v2`: what the Open Inference Protocol accepts by path, where it is served. `has_jobs`: there are routes of
    background jobs. `default_model`: the model that has aliases. `secured`: keys are needed.
    """
    names = list(names)
    errors = add_errors(document["components"]["schemas"])
    if accepted_v2 is not None:
        document["components"]["schemas"] |= v2.SCHEMAS
        document["paths"] |= v2.v2_paths(names, accepted_v2, errors)
    for path in accepted:
        post = document["paths"][path]["post"]
        post["responses"] = {"200": post["responses"]["200"]} | errors
        post["tags"] = [path.split("/")[1]]
        post["summary"] = post.pop("description")
        post["requestBody"]["required"] = True
        post["x-max-body-bytes"] = accepted[path].max_body_bytes
        if may_be_text(path.rpartition("/")[2], accepted[path]):
            add_text_answer(post)
    for name in names:
        for path in (f"/{name}/predict", f"/{name}/explain"):
            add_example(document["paths"][path]["post"], name)
        if kind_of(models.find(name)) == "box":
            answers = document["paths"][f"/{name}/explain"]["post"]["responses"]["200"]["content"]
            answers[PNG] = {"schema": {"type": "string", "format": "binary"}}
        info = get_path(name, f"What is known of the model {name}.")
        info["get"]["responses"] |= {status: errors[status] for status in ("401", "429")}
        document["paths"][f"/{name}/info"] = info
        document["paths"] |= version_paths(document, name, registry.versions(name))
    if has_jobs:
        document["components"]["schemas"] |= jobs.SCHEMAS
        document["paths"] |= jobs.job_paths(names, document["paths"], errors)
    document["paths"]["/health"] = get_path("Infrastructure", "200 while the server is alive.")
    document["tags"] = [{"name": name} for name in [*names, v2.TAG, "Infrastructure"]]
    document["info"] |= {"title": "Tiffin", "description": DESCRIPTION + told_aliases(names, default_model)}
    if root_path:
        document["servers"] = [{"url": root_path}]
    if secured:
        document["components"]["securitySchemes"] = SCHEMES
        for path, methods in document["paths"].items():
            if path.split("/")[1] in names or v2.is_secured(path):
                for operation in methods.values():
                    operation["security"] = [{scheme: []} for scheme in SCHEMES]
    return document


def told_aliases(names: Iterable[str], default_model: str | None) -> str:
    """Return a sentence on the aliases of paths, which are not listed among these."""
    aliases = sorted(aliases_of(names, default_model).items())
    return f" Other paths mean the same: {', '.join(f'`{alias}` for `{path}`' for alias, path in aliases)}."


def add_errors(schemas: Document) -> Document:
    """Add the schema of errors to the others; return the responses that are errors, by status."""
    error = ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= error.pop("$defs")
    schemas["ErrorBody"] = error
    errors: Document = {status: {"description": text, "content": ERROR_CONTENT} for status, text in ERRORS.items()}
    for status, headers in HEADERS.items():
        errors[status]["headers"] = headers
    return errors


def version_paths(document: Document, name: str, versions: Sequence[str]) -> Document:
    """Return the paths of a model's versions, where there are several, as copies of those of the model."""
    if len(versions) < 2:
        return {}
    schema = {"type": "string", "enum": list(versions)}
    parameter = {"name": "version", "in": "path", "required": True, "schema": schema}
    missing = {"description": "No such version is loaded.", "content": ERROR_CONTENT}
    found = {}
    for path, methods in document["paths"].items():
        root = next((root for root in (f"/{name}", f"/v2/models/{name}") if f"{path}/".startswith(f"{root}/")), None)
        if root is not None:
            copied = copy.deepcopy(methods)
            for operation in copied.values():
                operation["parameters"] = [*operation.get("parameters", []), parameter]
                operation["responses"]["404"] = missing
                if "operationId" in operation:
                    operation["operationId"] += "_version"
            found[f"{root}/versions/{{version}}{path.removeprefix(root)}"] = copied
    return found


def add_text_answer(post: Document) -> None:
    """Add the parameter with which answers are texts."""
    told = "text: the answer as JSON within a text, numbers as texts of three decimals, lists left out"
    schema = {"type": "string", "enum": list(VALUES), "default": VALUES[0]}
    post["parameters"] = [
        *post.get("parameters", []),
        {"name": PARAMETER, "in": "query", "required": False, "description": told, "schema": schema},
    ]
    content = post["responses"]["200"]["content"]["application/json"]
    content["schema"] = {"anyOf": [content["schema"], {"type": "string"}]}


def add_example(post: Document, name: str) -> None:
    """Add a model's input example to its predict or explain, where that is what it takes and its schema has none."""
    model = models.find(name)
    content = post["requestBody"]["content"].get("application/json")
    if content is not None and predict_of(name).request is model.input and model.input_example is not None:
        content["schema"].setdefault("example", model.input_example)


def get_path(tag: str, summary: str) -> Document:
    """Return the OpenAPI entry of a GET route that answers with a JSON object."""
    answer = {"description": "JSON object", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"get": {"tags": [tag], "summary": summary, "responses": {"200": answer}}}
