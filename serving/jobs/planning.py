"""Cutting a submitted file into chunks, whose inputs are stored as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from models.model import Array, Columns, InvalidInputError, Model
from serving.jobs.parts import objects
from serving.tables.archives import archived_names, is_archive
from serving.tables.faults import named
from serving.tables.formats import with_columns
from serving.tables.schema import Schema, invalid

# Rows of a chunk, where a model answers many rows as one array. Of other models it has as many items as a request.
CHUNK_ROWS = 5_000
# A chunk has no more bytes of texts or files, unless some rows that were read together do.
CHUNK_BYTES = 2**22
# The columns that are read of a file may take many times its bytes, of Parquet above all; no more than these.
MAX_BYTES = 2**31
# Among the columns of an input: the names of an archive's files. No column of a model has an empty name.
NAMES = ""


def cut(path: Path, model: type[Model[Any]], max_rows: int, store: Callable[[int, Columns], None]) -> list[int]:
    """Store the input columns of each chunk of a file by its number; return their numbers of rows.

    Chunks are stored again where the file turns out to be of another dialect. Raises InvalidInputError for the first
    fault in the file, and what `store` raises.
    """
    schema = Schema(model, max_rows)
    names: list[str] = []

    def store_all(found: Iterator[Columns]) -> list[int]:
        rows: list[int] = []
        size = 0
        for number, columns in enumerate(chunks(found, model)):
            count = rows_of(columns)
            size += bytes_of(columns)
            if size > MAX_BYTES:
                raise invalid(f"the columns that are read have more than {MAX_BYTES:,} bytes", "too_long")
            if names:
                columns[NAMES] = objects(names[sum(rows) : sum(rows) + count])
            store(number, columns)
            rows.append(count)
        return rows

    try:
        if schema.blobs and is_archive(path):
            names = archived_names(path)
        return with_columns(path, schema, store_all)
    except InvalidInputError as error:
        raise named(error, names) from None


def chunks(found: Iterator[Columns], model: type[Model[Any]]) -> Iterator[dict[str, Array]]:
    """Yield the columns of a chunk at a time, from those of some rows at a time."""
    most = CHUNK_ROWS if model.vectorized else model.max_items
    pieces: list[Columns] = []
    rows = size = 0
    for columns in slices(found, most):
        count, more = rows_of(columns), bytes_of(columns)
        if pieces and (rows + count > most or size + more > CHUNK_BYTES):
            yield joined(pieces)
            pieces, rows, size = [], 0, 0
        pieces.append(columns)
        rows, size = rows + count, size + more
    if pieces:
        yield joined(pieces)


def slices(found: Iterator[Columns], most: int) -> Iterator[Columns]:
    """Yield columns of so many rows at most, from those of any number of rows."""
    for columns in found:
        for start in range(0, rows_of(columns), most):
            yield {name: values[start : start + most] for name, values in columns.items()}


def rows_of(columns: Columns) -> int:
    """Return the number of rows."""
    return len(next(iter(columns.values())))


def joined(pieces: list[Columns]) -> dict[str, Array]:
    """Return the columns of all pieces together."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def bytes_of(columns: Columns) -> int:
    """Return about how many bytes columns take."""
    sized = (
        sum(map(len, filter(None, values))) if values.dtype.hasobject else values.nbytes for values in columns.values()
    )
    return sum(sized)
