"""The routes of a model: those that it declares, and `uploadfile`, `explain` and, of rows, `preview`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model

import models
from models.model import Array, Columns, Infer, InvalidInputError, Model, Route
from serving.http.explanations import explain_route
from serving.inference import context
from serving.inference.context import Priority
from serving.inference.errors import OverloadedError
from serving.tables.archives import archived_names, is_archive
from serving.tables.faults import in_file, named
from serving.tables.formats import read_columns, read_items, read_start
from serving.tables.schema import Schema
from serving.threads import to_its_end

# Texts or files of an upload that are computed at a time take no more, or one does.
PART_BYTES = 2**22

RETRY_SECONDS = 0.2
# Rows that `preview` answers.
PREVIEW_ROWS = 5


def routes_of(name: str) -> list[Route]:
    """Return the routes of the model `name`; raise ValueError when there is no such model."""
    model = models.find(name)
    previews = [] if Schema(model).blobs else [preview_route(model)]
    return [*model.routes(), upload_route(model), *previews, explain_route(model)]


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
    constants = fixed_fields(model)

    async def uploadfile(self: Model[Any], request: Any, infer: Infer[Any]) -> BaseModel:
        names: list[str] = []
        try:
            if schema.blobs and is_archive(request.file):
                names = await to_its_end(archived_names, request.file)
            outputs = await (whole if model.vectorized else in_parts)(model, request.file, infer)
        except InvalidInputError as error:
            raise named(error, names) from None
        lists: dict[str, Any] = {name: values.tolist() for name, values in self.columns(outputs).items()}
        if names:
            lists["file"] = names
        # Their types need no check, which would cost as much as writing them.
        return response.model_construct(**{**constants, **lists})

    summary = f"Answer a file of up to {model.max_file_items:,} rows."
    return Route("uploadfile", uploadfile, request, response, summary, upload=True)


@cache
def preview_route(model: type[Model[Any]]) -> Route:
    """Return the route that answers a file with its first rows as the model reads them, before it is asked for them."""
    columns = [column for column in model.inputs if column.used]
    example = {column.name: column.example for column in columns if column.example is not None}
    response = create_model(
        f"{model.__name__}Preview",
        __config__=ConfigDict(json_schema_extra={"example": {"rows": [example], "missing": []}}),
        __module__=__name__,
        rows=(list[dict[str, Any]], Field(description=f"the first {PREVIEW_ROWS} rows; null for what is missing")),
        missing=(list[str], Field(description="columns that the model reads and that have no value in these rows")),
    )

    async def preview(self: Model[Any], request: Any, infer: Infer[Any]) -> BaseModel:
        found = await to_its_end(read_start, request.file, model, PREVIEW_ROWS)
        values = {name: [None if value != value else value for value in found[name].tolist()] for name in found}
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        missing = [column.name for column in columns if not any(row.get(column.name) is not None for row in rows)]
        return response.model_construct(rows=rows, missing=missing)

    summary = "Tell how the first rows of a file are read, without an answer to them."
    return Route("preview", preview, upload_route(model).request, response, summary, upload=True)


def fixed_fields(model: type[Model[Any]]) -> dict[str, Any]:
    """Return what the answer to a file holds beside the output columns, by name."""
    fields = model.file_response.model_fields if model.file_response else {}
    return {name: field.default for name, field in fields.items() if field.default and not field.is_required()}


def output_names(model: type[Model[Any]], columns: Columns) -> list[str]:
    """Return the names of output columns in the order in which the model declares them; what else there is follows."""
    declared = [column.name for column in model.outputs]
    return [*declared, *(name for name in columns if name not in declared)]


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
    return await infer(await to_its_end(read_items, file, model))


async def in_parts(model: type[Model[Any]], file: Path, infer: Infer[Any]) -> Array:
    """Return the graph's outputs for all rows of a file, of which some are read and computed at a time.

    They are batch work, since thousands of texts or pictures would make single ones wait for seconds.
    """
    request = context.current.get()
    if request is not None:
        request.priority = Priority.BATCH
    outputs: list[Array] = []
    rows = 0
    parts = item_parts(model, file)
    try:
        while (part := await to_its_end(next, parts, None)) is not None:
            try:
                outputs.append(await infer_begun(part, infer) if outputs else await infer(part))
            except InvalidInputError as error:
                raise in_file(error, rows, model) from None
            rows += len(part)
            del part  # or it would be kept while the next is read
    finally:
        parts.close()
    return np.concatenate(outputs)


async def infer_begun(part: list[Any], infer: Infer[Any]) -> Array:
    """Return the outputs of a part of a file that was begun; wait where it is refused, since 503 would lose the others.

    The request's deadline ends the wait.
    """
    while True:
        try:
            return await infer(part)
        except OverloadedError:
            await asyncio.sleep(RETRY_SECONDS)


def item_parts(model: type[Model[Any]], file: Path) -> Generator[list[Any]]:
    """Yield the items of a file, about as many at a time as a request to `infer` may have, or PART_BYTES of them."""
    part: list[Any] = []
    size = 0
    for columns in read_columns(file, model):
        items = list(model.items(columns))
        size += sum(len(value) for values in columns.values() if values.dtype.hasobject for value in values if value)
        part += items
        if len(part) >= model.max_items or size >= PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
