"""DuckDB as the reader of one file that a client sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.tables.schema import Cells, Schema

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Rows that are fetched at a time, so that memory does not grow with the file: DuckDB's own number.
CHUNK_ROWS = 2_048
# What DuckDB may hold of one file: lines, pages of Parquet.
MEMORY_LIMIT = "200MB"
# The same of rows that hold files.
CHUNK_FILES = 8
# Most characters of long texts that are fetched at a time.
CHUNK_CHARACTERS = 2**18


def connect(path: Path) -> DuckDBPyConnection:
    """Open a DuckDB of one thread that can read this file and nothing else."""
    import duckdb  # 70 MB, which only servers that are given such files need to load

    settings: dict[str, Any] = {
        "threads": 1,
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=settings)
    connection.execute(f"SET allowed_paths = [{quoted(str(path))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET lock_configuration = true")
    return connection


def quoted(text: str) -> str:
    """Return text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def bounded(name: str, column: str, schema: Schema) -> str:
    """Return SQL for the text of a column, cut to one character more than is admitted.

    Text that is too long for a number or a category is none, whatever it is: a question mark stands in its place.
    """
    characters = schema.max_characters(name)
    cut = "'?'" if characters is None else f"left({column}, {characters + 1})"
    return f"CASE WHEN strlen({column}) > {schema.max_bytes(name)} THEN {cut} ELSE {column} END"


def chunk_rows(schema: Schema) -> int:
    """Return how many rows are fetched at a time: fewer of long texts, since all of a chunk is checked in one go."""
    if schema.blobs:
        return CHUNK_FILES
    texts = [characters for name in schema.columns if (characters := schema.max_characters(name)) is not None]
    return min(CHUNK_ROWS, max(1, CHUNK_CHARACTERS // sum(texts))) if texts else CHUNK_ROWS


def fetch(
    connection: DuckDBPyConnection, picked: dict[str, str], source: str, path: Path, schema: Schema
) -> Iterator[Cells]:
    """Yield the cells of some rows at a time; `picked` has the SQL for each column, `source` that for the file.

    Where none is picked the rows still count: what is absent is missing.
    """
    picked = picked or {next(iter(schema.columns)): "NULL"}
    # No part of the SQL was written by the client.
    rows = connection.execute(f"SELECT {', '.join(picked.values())} FROM {source}", [str(path)])  # noqa: S608
    while chunk := rows.fetchmany(chunk_rows(schema)):
        yield dict(zip(picked, map(list, zip(*chunk, strict=True)), strict=True))
