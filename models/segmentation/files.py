"""Reads a file of customers' rows: JSON, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from models.model import Array
from models.segmentation.columns import COLUMNS, NO_COLUMNS, TEXT_COLUMNS, Columns, checked, features, invalid

MAX_ROWS = 100_000
# Rows of a file that are decoded at a time, so that memory does not grow with the file.
CHUNK_ROWS = 5_000
NO_DATA = 'the file is not an object with an array "data"'
SPACE = re.compile(r"[ \t\n\r]*")


def read_file(path: Path) -> Array:
    """`features` of a file's rows; its format is recognised by its content.

    Raises InvalidInputError that names row and column of the first fault.
    """
    with path.open("rb") as file:
        start = file.read(64).lstrip()
        file.seek(0)
        if start.startswith(b"PAR1"):
            chunks = parquet_chunks(path)
        elif start.startswith((b"{", b"[")):
            chunks = json_chunks(file)
        else:
            chunks = csv_chunks(file)
        matrices: list[Array] = []
        rows = 0
        for columns in chunks:
            matrix = features(checked(columns, rows))
            matrices.append(matrix)
            rows += len(matrix)
            if rows > MAX_ROWS:
                raise invalid(f"the file has more than {MAX_ROWS:,} rows", "too_long")
    if not rows:
        raise invalid("the file has no rows", "too_short")
    return np.concatenate(matrices)


def refuse_constant(name: str) -> float:
    """NaN and Infinity are no JSON, though Python reads them."""
    raise json.JSONDecodeError(f"{name} is not JSON", name, 0)


DECODER = json.JSONDecoder(parse_constant=refuse_constant)
# How columns of some types are read. Text is cut off, since a small file can hold gigabytes of it.
PARQUET_READERS = {
    "FLOAT": "CASE WHEN isnan({0}) THEN NULL ELSE {0} END",
    "DOUBLE": "CASE WHEN isnan({0}) THEN NULL ELSE {0} END",
    "VARCHAR": "left({}, 100)",
}


def transposed(rows: Iterable[Mapping[str, Any]]) -> Iterator[Columns]:
    """Columns of every CHUNK_ROWS rows."""
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK_ROWS)):
        names = list(chunk[0])
        if names and all(list(row) == names for row in chunk):
            # The usual case, in a third of the time.
            yield dict(zip(names, map(list, zip(*(row.values() for row in chunk), strict=True)), strict=True))
        else:
            yield {name: [row.get(name) for row in chunk] for name in COLUMNS}


def json_chunks(file: io.BufferedReader) -> Iterator[Columns]:
    """Columns of `{"data": [{...}, ...]}`."""
    try:
        yield from transposed(json_rows(file.read().decode("utf-8-sig")))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid("the file is not valid JSON", "json_invalid") from error


def json_rows(text: str) -> Iterator[Mapping[str, Any]]:
    """The rows of `{"data": [{...}, ...]}`, decoded one by one; other keys are passed over.

    Decoded at once, a large file would take ten times its size in memory.
    """
    position = 0

    def peek() -> str:
        """The next character that is not white space, or nothing at the end."""
        nonlocal position
        position = SPACE.match(text, position).end()  # type: ignore[union-attr]  # it matches the empty text
        return text[position : position + 1]

    def take(characters: str) -> str:
        """Read one of `characters`."""
        nonlocal position
        found = peek()
        if not found or found not in characters:
            raise json.JSONDecodeError(f"expected one of {characters}", text, position)
        position += 1
        return found

    def value() -> Any:
        """Read a value."""
        nonlocal position
        peek()
        decoded, position = DECODER.raw_decode(text, position)
        return decoded

    def entries(close: str) -> Iterator[None]:
        """Once per entry of an array or object: reads the commas and the closing bracket."""
        if peek() == close:
            take(close)
            return
        while True:
            yield
            if take("," + close) == close:
                return

    if peek() == "[":
        raise invalid(NO_DATA, "missing")
    take("{")
    found = False
    for _ in entries("}"):
        key = value()
        take(":")
        if key != "data":
            value()
            continue
        found = True
        take("[")
        for _ in entries("]"):
            row = value()
            if not isinstance(row, dict):
                raise invalid("a row of data is not an object", "dict_type")
            yield row
    if peek():
        raise json.JSONDecodeError("more than one value", text, position)
    if not found:
        raise invalid(NO_DATA, "missing")


def csv_chunks(file: io.BufferedReader) -> Iterator[Columns]:
    """Columns of a UTF-8 CSV file with a header; an empty cell is missing."""
    lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), strict=True)

    def rows(width: int) -> Iterator[list[str]]:
        """The lines that are not empty, each of `width` cells."""
        for line in filter(None, lines):
            if len(line) != width:
                raise invalid(f"line {lines.line_num} has {len(line)} cells, the header has {width}", "csv")
            yield line

    try:
        header = next(lines, [])
        wanted = {name: i for i, name in enumerate(header) if name in TEXT_COLUMNS}
        complete = rows(len(header))
        while chunk := list(islice(complete, CHUNK_ROWS)):
            yield {name: [line[i] or None for line in chunk] for name, i in wanted.items()}
    except (csv.Error, UnicodeDecodeError) as error:
        raise invalid("the file is not JSON, Parquet or UTF-8 CSV", "csv") from error


def parquet_chunks(path: Path) -> Iterator[Columns]:
    """Columns of a Parquet file; NaN, pandas' mark of a missing number, is missing."""
    import duckdb  # 70 MB, which only servers that are given Parquet need to load

    settings: dict[str, Any] = {
        "threads": 1,
        "memory_limit": "512MB",
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    try:
        with duckdb.connect(":memory:", config=settings) as connection:
            types = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
            wanted = {name: PARQUET_READERS.get(kind, "{}") for name, kind, *_ in types if name in TEXT_COLUMNS}
            if not wanted:
                raise invalid(NO_COLUMNS, "missing")
            columns = ", ".join(reader.format(name) for name, reader in wanted.items())
            # The columns are names of ours.
            rows = connection.execute(f"SELECT {columns} FROM read_parquet(?)", [str(path)])  # noqa: S608
            while chunk := rows.fetchmany(CHUNK_ROWS):
                yield dict(zip(wanted, map(list, zip(*chunk, strict=True)), strict=True))
    except duckdb.Error as error:
        raise invalid("the file is not readable Parquet", "parquet") from error
