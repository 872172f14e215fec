"""Reads Parquet in pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.segmentation.columns import CATEGORICAL, COLUMNS, Columns, invalid, known_column, used_columns
from models.segmentation.database import bounded, connect, fetch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The description of a file's columns and pages, which takes several times its size when decoded.
MAX_FOOTER_BYTES = 4 * 2**20
TEXT = ("VARCHAR", "BLOB", "ENUM")
NUMBERS = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
    *("FLOAT", "DOUBLE", "DECIMAL"),
)
SOURCE = "read_parquet(?, hive_partitioning = false)"


def parquet_chunks(path: Path) -> Iterator[Columns]:
    """Yield the columns of a Parquet file; NaN, pandas' mark of a missing number, is missing."""
    import duckdb

    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
        footer_bytes = int.from_bytes(file.read(4), "little")
    if footer_bytes > MAX_FOOTER_BYTES:
        raise invalid(f"the footer of the file takes more than {MAX_FOOTER_BYTES:,} bytes", "parquet")
    try:
        with connect(path) as connection:
            yield from fetch(connection, picked(connection, path), SOURCE, path)
    except duckdb.OutOfMemoryException as error:
        raise invalid("the pages of the file are too large to be decoded", "parquet") from error
    except duckdb.Error as error:
        raise invalid("the file is not readable Parquet", "parquet") from error


def picked(connection: DuckDBPyConnection, path: Path) -> dict[str, str]:
    """Return the SQL for each column that the model reads."""
    names = column_names(connection, path)
    if not any(map(known_column, names)):
        raise invalid(f"the file has none of the columns {COLUMNS[0]} to {COLUMNS[-1]}", "missing")
    try:
        places = used_columns(names)
    except ValueError as error:
        raise invalid(str(error), "duplicate_column") from error
    described = connection.execute(f"DESCRIBE SELECT * FROM {SOURCE}", [str(path)]).fetchall()  # noqa: S608
    return {column: value(column, f"#{i + 1}", described[i][1]) for column, i in places.items()}


def column_names(connection: DuckDBPyConnection, path: Path) -> list[str]:
    """Return the columns' names as they stand in the file: DuckDB renames one that equals another but for case."""
    schema = connection.execute("SELECT name, num_children FROM parquet_schema(?)", [str(path)]).fetchall()
    names = []
    inside = 0  # fields of the columns' own fields that are still to come
    for name, children in schema[1:]:
        if inside:
            inside -= 1
        else:
            names.append(name)
        inside += children or 0
    return names


def value(column: str, expression: str, kind: str) -> str:
    """Return the SQL for a column's values as number or text; what is neither is given as a faulty value."""
    plain = kind.partition("(")[0]
    if plain in TEXT:
        return bounded(f"CAST({expression} AS VARCHAR)")
    if plain in NUMBERS and column not in CATEGORICAL:
        number = f"CAST({expression} AS DOUBLE)"
        return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
    fault = "true" if column in CATEGORICAL else "'?'"
    return f"CASE WHEN {expression} IS NOT NULL THEN {fault} END"
