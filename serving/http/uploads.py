"""The routes of a model: those that it declares, and `uploadfile`, which every model has."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

import models
from models.model import Array, Infer, InvalidInputError, Model, Route
from serving.inference import context
from serving.inference.context import Priority
from serving.tables.archives import archived_names, is_archive
from serving.tables.formats import read_columns, read_items
from serving.tables.schema import Schema


def routes_of(name: str) -> list[Route]:
    """Return the routes of the model `name`; raise ValueError when there is no such model."""
    model = models.find(name)
    return [*model.routes(), upload_route(model)]


@cache
def upload_route(model: type[Model[Any]]) -> Route:
    """Return the route that answers a file of input columns with the output columns, a list each."""
    schema = Schema(model)
    kinds = "ZIP archive of files, or Parquet" if schema.blobs else "JSON, JSON lines, CSV with a header, or Parquet"
    row = {column.name: column.example for column in model.inputs if column.example is not None}
    examples = None if schema.blobs else [json.dumps({"data": [row]})]
    request = create_model(
        f"{model.__name__}File",
        __doc__=f"A file of up to {model.max_file_items:,} rows.",
        __module__=__name__,
        file=(Path, Field(description=f"{kinds}; columns: {schema.listing}", examples=examples)),
    )
    response = model.file_response or rows_of(model)
    constants = {name: field.default for name, field in response.model_fields.items() if field.default}

    async def uploadfile(self: Model[Any], request: Any, infer: Infer[Any]) -> BaseModel:
        outputs = await (whole if model.vectorized else in_parts)(model, request.file, infer)
        lists: dict[str, Any] = {name: values.tolist() for name, values in self.columns(outputs).items()}
        if schema.blobs and is_archive(request.file):
            lists["file"] = await asyncio.to_thread(archived_names, request.file)
        # Their types need no check, which would cost as much as writing them.
        return response.model_construct(**{**constants, **lists})

    summary = f"Answer a file of up to {model.max_file_items:,} rows."
    return Route("uploadfile", uploadfile, request, response, summary, upload=True)


def rows_of(model: type[Model[Any]]) -> type[BaseModel]:
    """Return the schema of the output columns of several rows."""
    fields: dict[str, Any] = {column.name: (list[column.type], ...) for column in model.outputs}  # type: ignore[name-defined]
    if Schema(model).blobs:
        fields["file"] = (list[str] | None, Field(default=None, description="names of the files of an archive"))
    example: Any = {column.name: [column.example] for column in model.outputs}
    config = ConfigDict(json_schema_extra={"example": example})
    return create_model(f"{model.__name__}Rows", __config__=config, __module__=__name__, **fields)


async def whole(model: type[Model[Any]], file: Path, infer: Infer[Any]) -> Array:
    """Return the graph's outputs for all rows of a file, which are one array of items."""
    return await infer(await asyncio.to_thread(read_items, file, model))


async def in_parts(model: type[Model[Any]], file: Path, infer: Infer[Any]) -> Array:
    """Return the graph's outputs for all rows of a file, of which some are read and computed at a time.

    They are batch work, since thousands of texts or pictures would make single ones wait for seconds.
    """
    request = context.current.get()
    if request is not None:
        request.priority = Priority.BATCH
    parts: list[Array] = []
    rows = 0
    chunks = read_columns(file, model)
    while (columns := await asyncio.to_thread(next, chunks, None)) is not None:
        items = list(model.items(columns))
        for first in range(0, len(items), model.max_items):
            part = items[first : first + model.max_items]
            try:
                parts.append(await infer(part))
            except InvalidInputError as error:
                raise in_file(error, rows, model) from None
            rows += len(part)
    return np.concatenate(parts)


def in_file(error: InvalidInputError, first_row: int, model: type[Model[Any]]) -> InvalidInputError:
    """Return the error of an item as one of the file's row and column, where a model has one column."""
    columns = [column.name for column in model.inputs if column.used]
    column = columns if len(columns) == 1 else error.location
    return InvalidInputError(str(error), ("file", "data", first_row + (error.item or 0), *column), error.kind)
