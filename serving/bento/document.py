"""The OpenAPI document that BentoML derives, without its own schemas and types."""

from __future__ import annotations

import json
from typing import Any

import bentoml

UNUSED = ("TaskStatusResponse", "InvalidArgument", "NotFound", "InternalServerError")


def openapi_document(service: bentoml.Service[Any]) -> dict[str, Any]:
    """Return the OpenAPI document that BentoML derives from the API methods of a service.

    Methods of single versions are left out: their paths are copies of those of the model.
    """
    # BentoML appends IODescriptor to the names of our schemas. Through JSON, statuses become text. In OpenAPI a file is
    # a string of bytes, and null is a type from version 3.1 on.
    text = (
        json.dumps(service.openapi_spec.asdict())
        .replace("IODescriptor", "")
        .replace('"type": "file"', '"type": "string"')
    )
    document: dict[str, Any] = json.loads(text)
    document["openapi"] = "3.1.0"
    for schema in UNUSED:
        del document["components"]["schemas"][schema]
    document["paths"] = {path: found for path, found in document["paths"].items() if "/versions/" not in path}
    # BentoML's title and description are dropped; the version is that of the Bento.
    document["info"] = {"version": document["info"]["version"].replace("None", "development")}
    return document
