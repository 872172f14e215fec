"""Read a file of a model's columns: JSON, JSON lines, CSV, Parquet, or a ZIP archive of files; by its content."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np

from models.model import Array, Columns, InvalidInputError, Model, check
from serving.tables.archives import END_OF_DIRECTORY, ZIP, archive_cells
from serving.tables.arrays import CHUNK_ROWS
from serving.tables.cells import values_of
from serving.tables.csv_files import UnreadableError, dialects
from serving.tables.json_arrays import BLOCK_BYTES, SPACE
from serving.tables.json_files import json_cells
from serving.tables.parquet_files import parquet_arrays, parquet_cells
from serving.tables.schema import Cells, Schema, invalid

Result = TypeVar("Result")

# How files begin that would be taken for CSV otherwise.
OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or another ZIP archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save it as CSV",
    b"\x1f\x8b": "compressed with gzip: decompress it",
    b"BZh9": "compressed with bzip2: decompress it",
    b"\xfd7zXZ": "compressed with xz: decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: decompress it",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
    b"PARE": "encrypted Parquet: decrypt it",
    b"ARROW1": "an Arrow file: save it as Parquet",
    b"FEA1": "a Feather file: save it as Parquet",
    b"Obj\x01": "an Avro file: save it as Parquet",
    b"%PDF": "a PDF: save it as CSV",
}


def read_items(path: Path, model: type[Model[Any]]) -> Array:
    """Return the items of all rows of a file, for a vectorized model.

    Raises InvalidInputError that names row and column of the first fault.
    """
    return with_columns(path, Schema(model), lambda found: np.concatenate([model.items(columns) for columns in found]))


def read_columns(path: Path, model: type[Model[Any]]) -> Iterator[Columns]:
    """Yield the input columns of some rows of a file at a time, once the whole of it has been checked.

    Raises InvalidInputError that names row and column of the first fault.
    """
    faults: list[str] = []
    for way in ways(path, Schema(model)):
        try:
            deque(way.columns(), maxlen=0)  # keeps none of them
        except UnreadableError as fault:
            faults.append(str(fault))
        else:
            yield from way.columns()
            return
    raise invalid(faults[0], "csv")


def check_start(path: Path, model: type[Model[Any]], max_rows: int) -> None:
    """Raise InvalidInputError where the format of a file, its columns or its first rows do not fit the model.

    It may have `max_rows` rows, which is checked at once where the format says how many it has.
    """
    with_columns(path, Schema(model, max_rows), next)


def read_start(path: Path, model: type[Model[Any]], rows: int) -> Columns:
    """Return the values of the first `rows` of a file by column: as they stand in it, where a column has a notation.

    Raises InvalidInputError that names row and column of the first fault among them.
    """
    return read_by(path, Schema(model), lambda way: way.start(rows))


def with_columns(path: Path, schema: Schema, use: Callable[[Iterator[Columns]], Result]) -> Result:
    """Return what `use` makes of the input columns of some rows of a file at a time.

    `use` is called again where a CSV file turns out to be of another dialect. Raises InvalidInputError that names row
    and column of the first fault.
    """
    return read_by(path, schema, lambda way: use(way.columns()))


def read_by(path: Path, schema: Schema, read: Callable[[Way], Result]) -> Result:
    """Return what `read` makes of a file, one way after the other while it raises UnreadableError.

    Raises InvalidInputError for the first fault.
    """
    faults: list[str] = []
    for way in ways(path, schema):
        try:
            return read(way)
        except UnreadableError as fault:
            faults.append(str(fault))
    raise invalid(faults[0], "csv")


class Way(NamedTuple):
    """One way to read a file; `cells` raises UnreadableError where another way may do.

    `arrays` may return all columns at once, sooner, where no cell needs a closer look.
    """

    schema: Schema
    cells: Callable[[], Iterator[Cells]]
    arrays: Callable[[], dict[str, Array] | None] = lambda: None

    def columns(self) -> Iterator[Columns]:
        """Yield the input columns of some rows at a time, checked; InvalidInputError for the first fault."""
        if found := self.at_once():
            yield from found
            return
        rows = 0
        for cells in self.cells():
            count = len(next(iter(cells.values())))
            yield self.checked(cells, rows)
            del cells  # or they would be kept while the next are read
            rows += count
            if rows > self.schema.max_rows:
                raise invalid(self.schema.too_many_rows, "too_long")
        if not rows:
            raise invalid("the file has no rows", "too_short")

    def at_once(self) -> list[Columns]:
        """Return the columns of some rows at a time from `arrays`; none where a closer look is needed."""
        try:
            found = self.arrays() or {}
            rows = len(next(iter(found.values()), ()))
            parts = [slice(start, start + CHUNK_ROWS) for start in range(0, rows, CHUNK_ROWS)]
            return [self.checked({name: found[name][part] for name in found}, part.start) for part in parts]
        except InvalidInputError:  # a closer look tells the first fault
            return []

    def start(self, rows: int) -> Columns:
        """Return the values of the first rows, once they are checked; InvalidInputError for the first fault."""
        for cells in self.cells():
            first = {name: found[:rows] for name, found in cells.items()}
            self.checked(first, 0)
            return self.values(first)
        raise invalid("the file has no rows", "too_short")

    def values(self, cells: Cells) -> Columns:
        """Return the values of cells, still to be checked; InvalidInputError for what is no number but should be."""
        return {name: values_of(self.schema.columns[name], found) for name, found in cells.items()}

    def checked(self, cells: Cells, first_row: int) -> Columns:
        """Return the columns of some rows; raise InvalidInputError for the first fault."""
        try:
            return check(self.values(cells), self.schema.model.inputs)
        except InvalidInputError as error:
            raise invalid(str(error), error.kind, *place(error.location, first_row)) from None


def place(location: tuple[str | int, ...], first_row: int) -> tuple[str | int, ...]:
    """Return where in the file a fault is that was found at (row, name), or (name,), in rows from `first_row` on."""
    row, *rest = location
    return ("data", first_row + row, *rest) if isinstance(row, int) else location


def ways(path: Path, schema: Schema) -> Iterator[Way]:
    """Yield the ways to read a file, the likeliest first; InvalidInputError where there is none."""
    with path.open("rb") as file:
        start = file.read(16)
        text = start_of_text(file)
        file.seek(text)
        opens_json = file.read(1) in (b"{", b"[")
    if start.startswith(b"PAR1"):
        yield Way(schema, partial(parquet_cells, path, schema), partial(parquet_arrays, path, schema))
        return
    if schema.blobs:
        if not start.startswith((ZIP, END_OF_DIRECTORY)) or schema.blobs != list(schema.columns):
            archive = "a ZIP archive of files, or " if schema.blobs == list(schema.columns) else ""
            raise invalid(f"the file must be {archive}Parquet with these columns: {schema.listing}", "file_format")
        yield Way(schema, partial(archive_cells, path, schema))
        return
    for magic, advice in OTHER_FORMATS.items():
        if start.startswith(magic):
            raise invalid(f"the file is {advice}", "file_format")
    if opens_json:
        yield Way(schema, partial(json_cells, path, text, schema))
        return
    for dialect in dialects(path, schema):
        yield Way(schema, dialect.cells, dialect.arrays)


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
