"""BentoML's OpenAPI document, without what is only BentoML's."""

from __future__ import annotations

import json
from typing import Any

import bentoml

UNUSED = ("TaskStatusResponse", "InvalidArgument", "NotFound", "InternalServerError")


def openapi_document(service: bentoml.Service[Any]) -> dict[str, Any]:
    """Return the OpenAPI document that BentoML derives from the API methods of a service.

    Those of single versions are left out: they stand behind the paths of the model.
    """
    # BentoML derives a class of this name from each of our schemas; through JSON, statuses become text. And a file is a
    # string of bytes in OpenAPI, which knows null as a type from version 3.1 on.
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
    # That of the Bento.
    document["info"] = {"version": document["info"]["version"].replace("None", "development")}
    return document
