"""Read Parquet in pieces."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from models.model import Array
from serving.tables.arrays import NAN, are_possible, array_of_text, arrays
from serving.tables.database import connect, fetch
from serving.tables.schema import MAX_NUMBER_BYTES, Cells, Schema, invalid

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# The description of a file's columns and pages, which takes several times its size when decoded.
MAX_FOOTER_BYTES = 4 * 2**20
# Parquet whose cells are files, of which DuckDB holds many at a time.
MAX_FILES_BYTES = 64 * 2**20
# Bytes of long texts in the cells of a file: so many in any, and so many times its size.
MIN_TEXT_BYTES, MAX_RATIO = 8 * 2**20, 64
# The types of text, and what tells its bytes.
LENGTHS = {"VARCHAR": "strlen", "BLOB": "octet_length"}
WHOLE_NUMBERS = (
    *("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"),
    *("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"),
)
NUMBERS = (*WHOLE_NUMBERS, "FLOAT", "DOUBLE", "DECIMAL")
# What follows the name of a type of one value; a list's ends otherwise.
PRECISION = re.compile(r"\([\d, ]*+\)$")
SOURCE = "read_parquet(?, hive_partitioning = false)"


def parquet_cells(path: Path, schema: Schema) -> Iterator[Cells]:
    """Yield the cells of some rows at a time; NaN, pandas' mark of a missing number, is missing."""
    with opened(path, schema) as (connection, types):
        picked = {name: cell(schema.columns[name].base, *kind) for name, kind in types.items()}
        yield from fetch(connection, picked, SOURCE, path, schema)


def parquet_arrays(path: Path, schema: Schema) -> dict[str, Array] | None:
    """Return the columns of all rows, or None where a cell needs a closer look."""
    if not are_possible(schema):
        return None
    with opened(path, schema) as (connection, types):
        picked: dict[str, str] = {}
        for name, (column, kind) in types.items():
            if kind in NUMBERS and schema.columns[name].base is float:
                picked[name] = f"COALESCE(CAST({column} AS DOUBLE), {NAN})"
            elif kind == "VARCHAR":
                picked[name] = array_of_text(name, column, schema)
            else:
                return None
        return arrays(connection, picked, SOURCE, path, schema)


@contextlib.contextmanager
def opened(path: Path, schema: Schema) -> Iterator[tuple[DuckDBPyConnection, dict[str, tuple[str, str]]]]:
    """Yield a connection that reads the file, and `column_types`; raise InvalidInputError for what it cannot read."""
    import duckdb

    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
        footer_bytes = int.from_bytes(file.read(4), "little")
    if footer_bytes > MAX_FOOTER_BYTES:
        raise invalid(f"the footer of the file takes more than {MAX_FOOTER_BYTES:,} bytes", "parquet")
    if schema.blobs and path.stat().st_size > MAX_FILES_BYTES:
        raise invalid(f"Parquet of files may have {MAX_FILES_BYTES:,} bytes: send a ZIP archive", "too_long")
    with connect(path) as connection:
        try:
            types = column_types(connection, path, schema)
            check_rows(connection, path, types, schema)
            yield connection, types
        except duckdb.OutOfMemoryException as error:
            raise invalid("the pages of the file are too large to be decoded", "parquet") from error
        except duckdb.Error as error:
            told = "a text of the file is not UTF-8" if "UTF8" in str(error) else "the file is not readable Parquet"
            raise invalid(told, "parquet") from error


def column_types(connection: DuckDBPyConnection, path: Path, schema: Schema) -> dict[str, tuple[str, str]]:
    """Return the SQL for each column that the model reads, and its type."""
    names = column_names(connection, path)
    schema.check_names(names)
    places = schema.positions(names)
    described = connection.execute(f"DESCRIBE SELECT * FROM {SOURCE}", [str(path)]).fetchall()  # noqa: S608
    return {column: (f"#{i + 1}", PRECISION.sub("", described[i][1])) for column, i in places.items()}


def check_rows(connection: DuckDBPyConnection, path: Path, types: dict[str, tuple[str, str]], schema: Schema) -> None:
    """Raise InvalidInputError for too many rows, and for long cells, before DuckDB copies these for many rows."""
    (rows,) = connection.execute(f"SELECT count(*) FROM {SOURCE}", [str(path)]).fetchall()[0]  # noqa: S608
    if rows > schema.max_rows:
        raise invalid(schema.too_many_rows, "too_long")
    lengths = {name: f"{LENGTHS[kind]}({column})" for name, (column, kind) in types.items() if kind in LENGTHS}
    if not lengths:
        return
    first = ", ".join(
        f"min(file_row_number) FILTER ({length} > {schema.max_bytes(name)})" for name, length in lengths.items()
    )
    source = "read_parquet(?, hive_partitioning = false, file_row_number = true)"
    found = connection.execute(f"SELECT {first} FROM {source}", [str(path)]).fetchall()[0]  # noqa: S608
    check_total(connection, path, lengths, schema)
    for name, row in zip(lengths, found, strict=True):
        if row is not None:
            message = f"Input should have at most {schema.max_bytes(name):,} bytes"
            raise invalid(message, "string_too_long", "data", row, name)


def check_total(connection: DuckDBPyConnection, path: Path, lengths: dict[str, str], schema: Schema) -> None:
    """Raise InvalidInputError for files and long texts that are much larger in cells than in the file.

    One entry of a dictionary may stand in many rows, and DuckDB copies it for each.
    """
    most = MAX_FILES_BYTES if schema.blobs else MIN_TEXT_BYTES + MAX_RATIO * path.stat().st_size
    large = [name for name in lengths if schema.max_bytes(name) > MAX_NUMBER_BYTES]
    if not large:
        return
    total = " + ".join(f"coalesce(sum({lengths[name]}), 0)" for name in large)
    (found,) = connection.execute(f"SELECT {total} FROM {SOURCE}", [str(path)]).fetchall()[0]  # noqa: S608
    if found > most:
        told = f"the cells of {', '.join(large)} have {found:,} bytes, more than {most:,}"
        raise invalid(told + (": send a ZIP archive" if schema.blobs else ": send CSV or JSON"), "too_long")


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


def cell(base: type, column: str, kind: str) -> str:
    """Return the SQL for a column's cells as number, text or bytes; what is none is given as a faulty cell."""
    if base is bytes:
        return column if kind == "BLOB" else f"CASE WHEN {column} IS NOT NULL THEN true END"
    if kind in LENGTHS:
        return f"decode({column})" if kind == "BLOB" else f"CAST({column} AS VARCHAR)"
    if base is bool and kind == "BOOLEAN":
        return column
    if base is int and kind in WHOLE_NUMBERS:
        return column
    if kind in NUMBERS and base is not str:
        number = f"CAST({column} AS DOUBLE)"
        return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"
    fault = "true" if base is str else "'?'"
    return f"CASE WHEN {column} IS NOT NULL THEN {fault} END"
