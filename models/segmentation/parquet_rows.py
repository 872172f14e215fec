"""Reads Parquet in pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.segmentation.columns import (
    CATEGORICAL,
    MAX_FILE_ROWS,
    NO_COLUMNS,
    TOO_MANY_ROWS,
    Columns,
    invalid,
    known_column,
    used_columns,
)
from models.segmentation.database import MAX_TEXT_BYTES, connect, fetch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The description of a file's columns and pages, which takes several times its size when decoded.
MAX_FOOTER_BYTES = 4 * 2**20
# The types of text, and what tells its bytes.
LENGTHS = {"VARCHAR": "strlen", "BLOB": "octet_length"}
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
    with connect(path) as connection:
        try:
            types = column_types(connection, path)
            check_rows(connection, path, types)
            yield from fetch(connection, {name: value(name, *kind) for name, kind in types.items()}, SOURCE, path)
        except duckdb.OutOfMemoryException as error:
            raise invalid("the pages of the file are too large to be decoded", "parquet") from error
        except duckdb.Error as error:
            raise invalid("the file is not readable Parquet", "parquet") from error


def column_types(connection: DuckDBPyConnection, path: Path) -> dict[str, tuple[str, str]]:
    """Return the SQL for each column that the model reads, and its type."""
    names = column_names(connection, path)
    if not any(map(known_column, names)):
        raise invalid(NO_COLUMNS, "missing")
    try:
        places = used_columns(names)
    except ValueError as error:
        raise invalid(str(error), "duplicate_column") from error
    described = connection.execute(f"DESCRIBE SELECT * FROM {SOURCE}", [str(path)]).fetchall()  # noqa: S608
    return {column: (f"#{i + 1}", described[i][1].partition("(")[0]) for column, i in places.items()}


def check_rows(connection: DuckDBPyConnection, path: Path, types: dict[str, tuple[str, str]]) -> None:
    """Raise InvalidInputError for too many rows, and for long text, before DuckDB copies it for each of many rows."""
    (rows,) = connection.execute(f"SELECT count(*) FROM {SOURCE}", [str(path)]).fetchall()[0]  # noqa: S608
    if rows > MAX_FILE_ROWS:
        raise invalid(TOO_MANY_ROWS, "too_long")
    lengths = {name: f"{LENGTHS[kind]}({column})" for name, (column, kind) in types.items() if kind in LENGTHS}
    if not lengths:
        return
    first = ", ".join(f"min(file_row_number) FILTER ({length} > {MAX_TEXT_BYTES})" for length in lengths.values())
    source = "read_parquet(?, hive_partitioning = false, file_row_number = true)"
    found = connection.execute(f"SELECT {first} FROM {source}", [str(path)]).fetchall()[0]  # noqa: S608
    for name, row in zip(lengths, found, strict=True):
        if row is not None:
            message = f"Input should be a text of at most {MAX_TEXT_BYTES:,} bytes"
            raise invalid(message, "string_too_long", "data", row, name)


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


def value(name: str, column: str, kind: str) -> str:
    """Return the SQL for a column's values as number or text; what is neither is given as a faulty value."""
    if kind in LENGTHS:
        return f"CAST({column} AS VARCHAR)"
    if kind in NUMBERS and name not in CATEGORICAL:
        number = f"CAST({column} AS DOUBLE)"
        return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
    fault = "true" if name in CATEGORICAL else "'?'"
    return f"CASE WHEN {column} IS NOT NULL THEN {fault} END"
