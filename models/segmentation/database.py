"""DuckDB as the reader of one file that a client sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.segmentation.columns import USED, Columns

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Rows that are fetched at a time, so that memory does not grow with the file: DuckDB's own number.
CHUNK_ROWS = 2_048
# What DuckDB may hold of one file: lines, pages of Parquet.
MEMORY_LIMIT = "200MB"
# Longest text that is fetched, in bytes; longer text is neither a number nor a category.
MAX_TEXT_BYTES = 1_000


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


def bounded(column: str) -> str:
    """Return SQL for the text of a column, with a question mark in place of what is too long."""
    return f"CASE WHEN strlen({column}) > {MAX_TEXT_BYTES} THEN '?' ELSE {column} END"


def fetch(connection: DuckDBPyConnection, picked: dict[str, str], source: str, path: Path) -> Iterator[Columns]:
    """Yield the columns of some rows at a time; `picked` has the SQL for each column, `source` that for the file.

    Where none is picked the rows still count: what is absent is missing.
    """
    picked = picked or {USED[0]: "NULL"}
    # No part of the SQL was written by the client.
    rows = connection.execute(f"SELECT {', '.join(picked.values())} FROM {source}", [str(path)])  # noqa: S608
    while chunk := rows.fetchmany(CHUNK_ROWS):
        yield dict(zip(picked, map(list, zip(*chunk, strict=True)), strict=True))
