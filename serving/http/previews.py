"""The route `preview`: the first rows of a file as the model reads them, before all of it is answered."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from models.model import Array, Infer, Model, Route
from serving.tables.formats import read_start

MAX_ROWS = 5


@cache
def preview_route(model: type[Model[Any]], request: type[BaseModel]) -> Route:
    """Return the route that answers a file with its first rows; `request` is the schema of `uploadfile`'s form."""
    columns = [column for column in model.inputs if column.used]
    example = {column.name: column.example for column in columns if column.example is not None}
    response = create_model(
        f"{model.__name__}Preview",
        __config__=ConfigDict(json_schema_extra={"example": {"rows": [example], "missing": []}}),
        __module__=__name__,
        rows=(list[dict[str, Any]], Field(description=f"the first {MAX_ROWS} rows; null for what is missing")),
        missing=(list[str], Field(description="columns that the model reads and that have no value in these rows")),
    )

    async def preview(self: Model[Any], request: Any, infer: Infer[Any]) -> BaseModel:
        found = await asyncio.to_thread(read_start, request.file, model, MAX_ROWS)
        values = {column.name: plain(found[column.name]) for column in columns if column.name in found}
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        missing = [column.name for column in columns if not any(row.get(column.name) is not None for row in rows)]
        return response.model_construct(rows=rows, missing=missing)

    summary = "Tell how the first rows of a file are read, without an answer to them."
    return Route("preview", preview, request, response, summary, upload=True)


def plain(values: Array) -> list[Any]:
    """Return values as JSON has them, None for what is missing."""
    return [None if value != value else value for value in values.tolist()]
