"""The routes of the Open Inference Protocol in the OpenAPI document."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import models
from models.model import Column
from serving.http.endpoints import Accepted
from serving.http.v2.bodies import BINARY
from serving.http.v2.routes import REQUEST_BYTES, infer_path
from serving.oip.requests import PARAMETERS
from serving.oip.tensors import BYTES, DATATYPES

Document = dict[str, Any]

TAG = "Open Inference Protocol"
TEXT: Document = {"type": "string"}
SIZE: Document = {"type": "integer", "minimum": 0}
OBJECT: Document = {"type": "object"}
LIST: Document = {"type": "array", "items": OBJECT}
BINARY_SIZE: Document = {"binary_data_size": {**SIZE, "description": "bytes of its elements after the JSON"}}
# Each model has its own copy, with an example.
TENSOR_REQUEST: Document = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": TEXT,
        "parameters": {
            "type": "object",
            "properties": {
                **{name: {**SIZE, "description": meaning} for name, meaning in PARAMETERS.items()},
                "binary_data_output": {"type": "boolean", "description": "answer all outputs in binary form"},
            },
        },
        "inputs": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/InputTensor"}},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": TEXT,
                    "parameters": {"type": "object", "properties": {"binary_data": {"type": "boolean"}}},
                },
            },
        },
    },
}
SCHEMAS: Document = {
    "InputTensor": {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": TEXT,
            "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": SIZE},
            "datatype": {"type": "string", "enum": list(DATATYPES)},
            "parameters": {
                "type": "object",
                "properties": {**BINARY_SIZE, "content_type": {"type": "string", "description": "str or base64"}},
            },
            "data": {"type": "array", "items": {}, "description": "elements, flat or in rows"},
        },
    },
    "TensorAnswer": {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "properties": {
                        "name": TEXT,
                        "shape": {"type": "array", "items": SIZE},
                        "datatype": {"type": "string", "enum": list(DATATYPES)},
                        "parameters": {"type": "object", "properties": BINARY_SIZE},
                        "data": {"type": "array", "items": {}},
                    },
                },
            },
        },
    },
}
MODEL_PATHS = {
    "": "Inputs and outputs of a model.",
    "/config": "Triton's configuration of a model.",
    "/stats": "Triton's statistics of a model.",
    "/ready": "200 while a model can answer.",
}
SERVER_PATHS = {
    "/v2": "Name, version and extensions of the server.",
    "/v2/health/live": "200 while the server is alive.",
    "/v2/health/ready": "200 while the server takes requests.",
    "/v2/models/stats": "Triton's statistics of all models.",
}
REPOSITORY_PATHS = {
    "/v2/repository/index": "The versions of the models in the store, and which are loaded.",
    "/v2/repository/models/{model}/load": "Load a version of a model, by default the newest.",
    "/v2/repository/models/{model}/unload": "Unload a version of a model, by default all.",
}
# What is not in the errors of other routes, or means something else here.
ERRORS = {"400": "The request breaks the protocol; `error` says how.", "404": "There is no such model or version."}


def v2_paths(names: Iterable[str], accepted: Mapping[str, Accepted], errors: Document) -> Document:
    """Return the paths of the protocol; `errors` are the responses that are errors, by status."""
    names = list(names)
    content = errors["400"]["content"]
    errors = errors | {status: {"description": text, "content": content} for status, text in ERRORS.items()}
    paths = {path: get(text, errors) for path, text in SERVER_PATHS.items()}
    for name in names:
        paths |= {f"/v2/models/{name}{suffix}": get(text, errors) for suffix, text in MODEL_PATHS.items()}
        path = infer_path(name)
        paths[path] = {"post": inference(name, accepted[path].max_body_bytes, errors)}
    for path, text in REPOSITORY_PATHS.items():
        is_index = path.endswith("/index")
        schema = LIST if is_index else OBJECT
        body: Document = {"ready": True} if is_index else {"parameters": {"version": "TAG"}}
        operation: Document = {"tags": [TAG], "summary": text, "responses": responses(errors, schema)}
        operation["requestBody"] = {
            "required": False,
            "content": {"application/json": {"schema": {**OBJECT, "example": body}}},
        }
        operation["x-max-body-bytes"] = REQUEST_BYTES
        if "{model}" in path:
            schema = {"type": "string", "enum": names}
            operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": schema}]
        paths[path] = {"post": operation}
    return paths


def is_secured(path: str) -> bool:
    """Return whether a path of the protocol needs a key, where the server asks for one."""
    return path.startswith(("/v2/models/", "/v2/repository/")) and not path.endswith("/ready")


def inference(name: str, max_body_bytes: int, errors: Document) -> Document:
    """Return the operation of inference by a model, with an example that works."""
    answer: Document = {"$ref": "#/components/schemas/TensorAnswer"}
    header = {"description": "bytes of the body that are JSON; binary tensors follow", "schema": TEXT}
    operation: Document = {
        "tags": [TAG],
        "summary": f"Answer tensors by the model {name}.",
        "parameters": [{"name": "Inference-Header-Content-Length", "in": "header", **header}],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {**TENSOR_REQUEST, "example": example(name)}}},
        },
        "responses": responses(errors, answer),
        "x-max-body-bytes": max_body_bytes,
        "x-max-rows": models.find(name).max_items,
    }
    operation["responses"]["200"]["content"][BINARY] = {"schema": TEXT}
    return operation


def example(name: str) -> Document:
    """Return a request for one row, made of the examples of a model's columns."""
    columns = models.find(name).inputs
    return {"inputs": [tensor(column) for column in columns if column.example is not None]}


def tensor(column: Column) -> Document:
    """Return a column's example as an input tensor of one row."""
    value = column.example
    datatype = BYTES if isinstance(value, str) else column.datatype
    found: Document = {"name": column.name, "shape": [1], "datatype": datatype}
    if column.is_list:
        return {**found, "shape": [1, len(value)], "data": value}
    if isinstance(value, bytes):
        data = base64.b64encode(value).decode()
        return {**found, "parameters": {"content_type": "base64"}, "data": [data]}
    return {**found, "data": [value]}


def get(summary: str, errors: Document) -> Document:
    """Return the entry of a GET route that answers with a JSON object."""
    return {"get": {"tags": [TAG], "summary": summary, "responses": responses(errors)}}


def responses(errors: Document, schema: Document = OBJECT) -> Document:
    """Return the responses of an operation that answers with JSON of this schema."""
    success = {"description": "JSON", "content": {"application/json": {"schema": schema}}}
    return {"200": success, **errors}
