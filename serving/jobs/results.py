"""The result of a job as a file: JSON as `uploadfile` answers it, CSV or Parquet; made piece by piece."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.model import Array, Column

# Reads a chunk's output columns.
Read = Callable[[str], dict[str, Array]]

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
FORMATS = {"json": JSON, "csv": CSV, "parquet": PARQUET}
PIECE_BYTES = 2**18
# DuckDB's types of columns.
TYPES = {float: "DOUBLE", int: "BIGINT", bool: "BOOLEAN", str: "VARCHAR"}


def json_pieces(
    results: Sequence[str], read: Read, names: Sequence[str], constants: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yield a JSON object with a list for each column, and the constants; a chunk is read once for each column."""
    for place, name in enumerate(names):
        yield (b"," if place else b"{") + msgspec.json.encode(name) + b":["
        for number, result in enumerate(results):
            values = msgspec.json.encode(read(result)[name].tolist())[1:-1]
            yield b"," + values if number else values
        yield b"]"
    for name, value in constants.items():
        yield b"," + msgspec.json.encode(name) + b":" + msgspec.json.encode(value)
    yield b"}"


def csv_pieces(results: Sequence[str], read: Read, names: Sequence[str]) -> Iterator[bytes]:
    """Yield a CSV file with a header; lists are written as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    yield text.getvalue().encode()
    for result in results:
        text.seek(0)
        text.truncate()
        columns = read(result)
        writer.writerows(zip(*(cells(columns[name]) for name in names), strict=True))
        yield text.getvalue().encode()


def cells(values: Array) -> list[Any]:
    """Return the values of a column as cells of CSV."""
    if values.ndim > 1:
        return [msgspec.json.encode(row).decode() for row in values.tolist()]
    found: list[Any] = values.tolist()
    return found


def parquet_pieces(
    results: Sequence[str], read: Read, names: Sequence[str], columns: Sequence[Column]
) -> Generator[bytes]:
    """Yield a Parquet file, made on the disk from one of JSON lines, so that memory does not grow with it."""
    import duckdb  # 70 MB, which only servers that need it load

    types = dict.fromkeys(names, "VARCHAR") | {
        column.name: TYPES[column.base] + ("[]" if column.is_list else "") for column in columns
    }
    with tempfile.TemporaryDirectory(prefix="tiffin-job-") as folder:
        lines, parquet = Path(folder) / "lines", Path(folder) / "parquet"
        with lines.open("wb") as file:
            for result in results:
                found = read(result)
                rows = zip(*(found[name].tolist() for name in names), strict=True)
                file.writelines(msgspec.json.encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows)
        with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": "200MB"}) as connection:
            connection.execute("SET enable_progress_bar = false")
            source = connection.read_json(str(lines), columns=types, format="newline_delimited")
            source.write_parquet(str(parquet), compression="zstd")
        lines.unlink()  # many times as large, while clients may take as long as they like
        with parquet.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece


def of_media_type(accepted: str) -> str | None:
    """Return the first of our formats that an Accept header admits, by the order of its weights; None without one."""
    weights: list[tuple[float, int, str]] = []
    for place, entry in enumerate(accepted.split(",")):
        media_type, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights.append((-as_number(weight), place, media_type))
    for negative, _, media_type in sorted(weights):
        for name, ours in FORMATS.items():
            if negative and media_type in (ours, f"{ours.partition('/')[0]}/*", "*/*", ""):
                return name
    return None


def as_number(text: str) -> float:
    """Return a weight of a header; 0 for what is none."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if np.isfinite(number) else 0.0
