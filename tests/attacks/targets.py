"""Routes to attack, read from an OpenAPI document."""

from __future__ import annotations

from typing import NamedTuple

from tests.fuzz_requests import expanded
from tests.fuzz_values import Json

# For operations that declare no bound.
MAX_BODY_BYTES = 32 * 2**20


class Target(NamedTuple):
    """A route that takes a body of at most `max_body_bytes`: JSON, or a form, that conforms to `schema`.

    With `max_rows` the body has tensors of as many rows at most, as in the schema's example.
    """

    path: str
    media_type: str
    schema: Json
    max_body_bytes: int
    max_rows: int = 0

    @property
    def form(self) -> bool:
        """Return whether the body is a form."""
        return self.media_type == "multipart/form-data"

    @property
    def fields(self) -> Json:
        """Return the schemas of the body's fields, by name."""
        return self.schema["properties"]

    @property
    def array(self) -> str:
        """Return the name of the first array field, or of the first field if there is none."""
        arrays = [name for name, field in self.fields.items() if field.get("type") == "array"]
        return str((arrays or list(self.fields))[0])


def targets(document: Json) -> list[Target]:
    """Return the routes of an OpenAPI document that need a body."""
    found = []
    for path, methods in document["paths"].items():
        if "post" in methods and methods["post"]["requestBody"]["required"]:
            operation = methods["post"]
            ((media_type, content),) = operation["requestBody"]["content"].items()
            schema = expanded(content["schema"], document["components"]["schemas"])
            bound, rows = operation.get("x-max-body-bytes", MAX_BODY_BYTES), operation.get("x-max-rows", 0)
            found.append(Target(path, media_type, schema, bound, rows))
    return found
