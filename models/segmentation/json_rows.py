"""Reads JSON in pieces: `{"data": [row, …]}`, or a row in each line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import IO

import msgspec

from models.model import UNDECODABLE
from models.segmentation.columns import (
    CATEGORICAL,
    NO_COLUMNS,
    USED,
    Columns,
    has_odd_names,
    invalid,
    known_column,
    used_columns,
)
from models.segmentation.json_arrays import BLOCK_BYTES, SPACE, data_arrays, has_rows_in_lines, line_arrays

Row = msgspec.defstruct(
    "Row",
    [(name, str | None if name in CATEGORICAL else float | str | None, None) for name in USED],
    gc=False,
)
DECODER = msgspec.json.Decoder(list[Row])  # type: ignore[valid-type]
NAMES = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def json_chunks(path: Path) -> Iterator[Columns]:
    """Yield the columns of some rows at a time."""
    rows = 0
    with path.open("rb") as file:
        file.seek(start_of_text(file))
        try:
            for array in line_arrays(file) if has_rows_in_lines(file) else data_arrays(file):
                columns = decoded(array, rows)
                if not rows:
                    check_names(array)
                rows += len(columns[USED[0]])
                yield columns
        except UNDECODABLE as error:
            raise invalid(f"the file is not valid JSON, at row {rows:,} or later", "json_invalid") from error


def start_of_text(file: IO[bytes]) -> int:
    """Return the place of the first byte that is no white space, after a byte order mark if there is one."""
    file.seek(0)
    start = file.read(len(codecs.BOM_UTF8))
    place = len(start) if start == codecs.BOM_UTF8 else 0
    file.seek(place)
    while block := file.read(BLOCK_BYTES):
        text = block.lstrip(SPACE)
        if text:
            return place + len(block) - len(text)
        place += len(block)
    return place


def decoded(array: bytes, first_row: int) -> Columns:
    """Return the columns of a JSON array of rows."""
    try:
        rows = DECODER.decode(array)
        if not has_odd_names(array):
            return {name: list(map(attrgetter(name), rows)) for name in USED}
    except msgspec.ValidationError:
        pass  # the general way tells which value it is
    return decoded_by_any_name(array, first_row)


def decoded_by_any_name(array: bytes, first_row: int) -> Columns:
    """Return the columns of a JSON array of rows whose names or values need a closer look; slower."""
    rows = json.loads(array, parse_int=float, parse_constant=refuse_constant)
    columns: Columns = {name: [None] * len(rows) for name in USED}
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise invalid("a row is not an object", "dict_type", "data", first_row + i)
        names = list(row)
        try:
            places = used_columns(names)
        except ValueError as error:
            raise invalid(str(error), "duplicate_column", "data", first_row + i) from error
        for column, place in places.items():
            value = row[names[place]]
            columns[column][i] = str(value) if isinstance(value, bool) else value
    return columns


def refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are no JSON, though Python reads them."""
    raise msgspec.DecodeError(f"{name} is not JSON")


def check_names(array: bytes) -> None:
    """Raise InvalidInputError if no name in a JSON array of rows is that of a column."""
    names = {name for row in NAMES.decode(array) for name in row}
    if names and not any(map(known_column, names)):
        raise invalid(NO_COLUMNS, "missing")
