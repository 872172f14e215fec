"""Reads JSON in pieces: `{"data": [row, …]}`, `[row, …]`, or a row in each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from models.model import UNDECODABLE, without_escapes
from serving.tables.json_arrays import MAX_COLUMNS, data_arrays, has_rows_in_lines, line_arrays, with_data
from serving.tables.schema import Cells, Schema, invalid

# What a cell may hold, by the type of its column: whole numbers become floats where these are meant.
TYPES: dict[type, Any] = {
    float: float | str | None,
    int: int | float | str | None,
    bool: bool | str | None,
    str: str | None,
}
ROWS = msgspec.json.Decoder(list[msgspec.Raw])
OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
TEXT = msgspec.json.Decoder(str)


def json_cells(path: Path, start: int, schema: Schema) -> Iterator[Cells]:
    """Yield the cells of some rows at a time; the text begins at the byte `start`."""
    decoder = JsonRows(schema)
    rows = 0
    with path.open("rb") as file:
        file.seek(start)
        try:
            lines = has_rows_in_lines(file, schema)
            for array in line_arrays(file) if lines else data_arrays(with_data(file)):
                cells = decoder.cells(array, rows)
                if not rows:
                    decoder.check_names(array)
                rows += len(next(iter(cells.values())))
                yield cells
        except UNDECODABLE as error:
            raise invalid(f"the file is not valid JSON, at row {rows:,} or later", "json_invalid") from error


class JsonRows:
    """The decoder of JSON arrays of rows."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        names = {f"c{i}": name for i, name in enumerate(schema.columns)}
        fields = [(field, TYPES[schema.columns[name].base], None) for field, name in names.items()]
        row: Any = msgspec.defstruct("Row", fields, gc=False, rename=names)
        self.decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[row])
        self.attributes = {name: attrgetter(field) for field, name in names.items()}

    def cells(self, array: bytes, first_row: int) -> Cells:
        """Return the cells of a JSON array of rows that begin with `first_row`."""
        try:
            rows = self.decoder.decode(array)
            if not self.schema.names.has_odd_names(array):
                return {name: list(map(attribute, rows)) for name, attribute in self.attributes.items()}
        except msgspec.ValidationError:
            pass  # the general way tells which value it is
        return self.cells_by_any_name(array, first_row)

    def cells_by_any_name(self, array: bytes, first_row: int) -> Cells:
        """Return the cells of a JSON array of rows whose names or values need a closer look; slower.

        Values are decoded one by one, those of other columns and what is nested not at all.
        """
        rows = ROWS.decode(array)
        cells: Cells = {name: [None] * len(rows) for name in self.schema.columns}
        for i, row in enumerate(rows):
            values = row_values(row, first_row + i)
            names = list(values)
            for column, place in self.schema.positions(names, "data", first_row + i).items():
                value = decoded(values[names[place]])
                is_number = self.schema.columns[column].base in (float, int)
                cells[column][i] = str(value) if isinstance(value, bool) and is_number else value
        return cells

    def check_names(self, array: bytes) -> None:
        """Raise InvalidInputError if no name in a JSON array of rows is that of a column, unless there are no names."""
        names: list[str] = []
        for i, row in enumerate(ROWS.decode(array)):
            names = list(row_values(row, i)) or names
            if self.schema.names.count(names):
                return
        if names:
            self.schema.check_names(names)


def row_values(row: msgspec.Raw, number: int) -> dict[str, msgspec.Raw]:
    """Return the values of a row by name; InvalidInputError where it is no object or has too many columns."""
    text = bytes(row)
    if not text.startswith(b"{"):
        raise invalid("a row is not an object", "dict_type", "data", number)
    if without_escapes(text).count(b'"') > 4 * MAX_COLUMNS:  # two for each name, and two for each text
        raise invalid(f"a row has more than {MAX_COLUMNS:,} columns", "too_long", "data", number)
    return OBJECT.decode(text)


def decoded(value: msgspec.Raw) -> Any:
    """Return a number, a text, a boolean or None; an empty list in the place of what is nested."""
    text = bytes(value)
    if text.startswith((b"[", b"{")):
        return []
    if text.startswith(b'"'):
        return TEXT.decode(text)
    try:
        return json.loads(text, parse_int=parse_int, parse_constant=refuse_constant)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error


def parse_int(digits: str) -> float:
    """Return a whole number, as a float where it has so many digits that Python would take long."""
    return int(digits) if len(digits.lstrip("-")) < 20 else float(digits)


def refuse_constant(name: str) -> float:
    """Refuse NaN and Infinity, which are no JSON, though Python reads them."""
    raise msgspec.DecodeError(f"{name} is not JSON")
