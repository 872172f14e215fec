"""Read rows to score in record batches: CSV, JSON lines, Parquet, pictures, one file or a folder."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from models.model import InvalidInputError, Model
from scoring.lines import BLOCK_BYTES, OddLinesError, line_batches
from serving.tables.archives import is_archive, is_meant
from serving.tables.csv_files import read_header
from serving.tables.database import quoted
from serving.tables.schema import Schema

CSV, JSON, PARQUET, FILES = "csv", "jsonl", "parquet", "files"
WRITTEN = {".csv": CSV, ".jsonl": JSON, ".ndjson": JSON, ".parquet": PARQUET}
SUFFIXES = WRITTEN | {".tsv": CSV, ".json": JSON}
# The column that names the file of a picture.
FILE = "file"
# Rows of JSON that are read at a time.
JSON_ROWS = 2**14
# Files that are read at a time.
BATCH_FILES = 16
# So much of the last cell of CSV is compared with the end of the file.
TAIL_CHARACTERS = 256
# What DuckDB may hold of a file.
MEMORY_LIMIT = "500MB"


class SourceError(Exception):
    """The input cannot be read; the text says why."""


@dataclass(frozen=True)
class Source:
    """A file of rows, or a folder or ZIP archive of files that are a row each."""

    path: Path
    form: str

    def rows(self) -> int:
        """Return about how many rows there are: of text by its first lines; raise SourceError."""
        with self.faults():
            if self.form == PARQUET:
                found: int = pa.parquet.read_metadata(self.path).num_rows
                return found
            if self.form == FILES:
                return len(file_names(self.path))
            with self.path.open("rb") as file:
                block = file.read(BLOCK_BYTES)
            return block.count(b"\n") * self.path.stat().st_size // max(1, len(block)) - (self.form == CSV)

    def batches(self, model: type[Model[Any]], skip: int, *, lines: bool = False) -> Iterator[pa.RecordBatch]:
        """Yield the rows after the first `skip`, in their order; raise SourceError for what cannot be read.

        With `lines`, those of CSV may have the column LINE in the place of columns that the model does not read.
        """
        read = csv_lines if lines and self.form == CSV else READERS[self.form]
        batches = read(self.path, model, skip)
        while True:
            with self.faults():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Raise SourceError for what goes wrong in reading."""
        try:
            yield
        except (pa.ArrowInvalid, OSError, InvalidInputError, zipfile.BadZipFile) as error:
            raise SourceError(f"{self.path}: {str(error).splitlines()[0]}") from error


def find_sources(path: Path, model: type[Model[Any]]) -> list[Source]:
    """Return what is to be read: the file itself, or the files of a folder in the order of their names.

    Raises SourceError.
    """
    blobs = Schema(model).blobs
    if path.is_dir():
        if not os.access(path, os.R_OK | os.X_OK):
            raise SourceError(f"{path} may not be read")
        files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith((".", "_"))]
        if blobs and not any(file.suffix.lower() in SUFFIXES for file in files):
            return [Source(path, FILES)]
        if not files:
            raise SourceError(f"{path} has no files")
        return [Source(file, form_of(file)) for file in files]
    if not path.is_file():
        raise SourceError(f"there is no {path}")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{path} may not be read")
    if blobs and is_archive(path):
        return [Source(path, FILES)]
    return [Source(path, form_of(path))]


def form_of(path: Path, suffixes: Mapping[str, str] = SUFFIXES) -> str:
    """Return the format of a file, by its name; raise SourceError where it ends with none of the suffixes."""
    form = suffixes.get(path.suffix.lower())
    if form is None:
        raise SourceError(f"{path}: the name must end with {', '.join(suffixes)}")
    return form


def csv_batches(path: Path, model: type[Model[Any]], skip: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file, all cells as they stand there."""
    header = read_header(path, Schema(model))
    if header.delimiter not in (",", "\t"):
        raise InvalidInputError("cells must be separated by commas or tabs", (), "csv")
    reading = pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES)
    parsing = pa.csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True)
    with pa.csv.open_csv(path, reading, parsing) as reader:
        names = reader.schema.names
    converting = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    with pa.csv.open_csv(path, reading, parsing, converting) as reader:
        yield from skipped(to_their_end(reader, path), skip)


def to_their_end(batches: Iterable[pa.RecordBatch], path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a CSV file; raise InvalidInputError for a quotation mark without a counterpart.

    Arrow takes all that follows it for one cell, up to the end of the file.
    """
    cell = ""
    for batch in batches:
        yield batch
        if len(batch):
            cell = batch.column(batch.num_columns - 1)[-1].as_py()
    end = cell[-TAIL_CHARACTERS:].replace('"', '""').encode()
    if "\n" in cell and tail(path, len(end)) == end:
        lines = cell.count("\n")
        raise InvalidInputError(f"a quotation mark has no counterpart: it begins a cell of {lines:,} lines", (), "csv")


def tail(path: Path, size: int) -> bytes:
    """Return the last bytes of a file."""
    with path.open("rb") as file:
        file.seek(-min(size, path.stat().st_size), os.SEEK_END)
        return file.read()


def csv_lines(path: Path, model: type[Model[Any]], skip: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file as `line_batches` has them, and from an odd one on as `csv_batches`."""
    rows = 0
    try:
        for batch in line_batches(path, model):
            rows += batch.num_rows
            if rows > skip:
                yield batch.slice(max(0, batch.num_rows - (rows - skip)))
    except OddLinesError:
        yield from csv_batches(path, model, max(rows, skip))


def parquet_batches(path: Path, model: type[Model[Any]], skip: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file; row groups that are skipped are not read."""
    with pa.parquet.ParquetFile(path, pre_buffer=False) as file:
        groups: list[int] = []
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if not groups and skip >= rows:
                skip -= rows
            else:
                groups.append(group)
        yield from skipped(file.iter_batches(2**14, row_groups=groups, use_threads=False), skip)


def json_batches(path: Path, model: type[Model[Any]], skip: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file of JSON lines; each cell is the JSON of its value."""
    import duckdb

    file = quoted(str(path))
    options = f"format = 'newline_delimited', maximum_object_size = {2**25}"
    with duckdb.connect(":memory:", config={"threads": 1, "memory_limit": MEMORY_LIMIT}) as connection:
        connection.execute("SET enable_progress_bar = false")
        try:
            query = f"SELECT DISTINCT json_keys(json) FROM read_json_objects({file}, {options})"  # noqa: S608
            found = connection.execute(query).fetchall()
            names = list(dict.fromkeys(name for (keys,) in sorted(found, key=str) for name in keys or ()))
            columns = ", ".join(f"{quoted(name)}: 'JSON'" for name in names)
            if not names:
                raise InvalidInputError("the file has no objects with names", (), "json_invalid")
            rows = connection.sql(f"SELECT * FROM read_json({file}, {options}, columns = {{{columns}}})")  # noqa: S608
            for batch in skipped(rows.to_arrow_reader(JSON_ROWS), skip):
                cells = [pa.ExtensionArray.from_storage(pa.json_(pa.string()), array) for array in batch.columns]
                yield pa.record_batch(cells, names=names)
        except duckdb.Error as error:
            raise InvalidInputError(str(error), (), "json_invalid") from error


def file_batches(path: Path, model: type[Model[Any]], skip: int) -> Iterator[pa.RecordBatch]:
    """Yield the files of a folder or of a ZIP archive, as rows of their names and contents."""
    (column,) = Schema(model).columns
    names = file_names(path)
    if path.is_dir():
        for part in parts(names[skip:]):
            yield file_batch(part, [(path / name).read_bytes() for name in part], column)
        return
    with zipfile.ZipFile(path) as archive:
        for part in parts(names[skip:]):
            yield file_batch(part, [archive.read(name) for name in part], column)


READERS = {CSV: csv_batches, JSON: json_batches, PARQUET: parquet_batches, FILES: file_batches}


def file_names(path: Path) -> list[str]:
    """Return the names of the files in a folder and its folders, sorted, or in a ZIP archive."""
    if path.is_dir():
        found = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
        return sorted(str(name) for name in found if not any(part.startswith(".") for part in name.parts))
    with zipfile.ZipFile(path) as archive:
        return [entry.filename for entry in archive.infolist() if is_meant(entry)]


def parts(names: list[str]) -> Iterator[list[str]]:
    """Yield names, BATCH_FILES at a time."""
    for start in range(0, len(names), BATCH_FILES):
        yield names[start : start + BATCH_FILES]


def file_batch(names: list[str], contents: list[bytes], column: str) -> pa.RecordBatch:
    """Return a batch of files."""
    return pa.record_batch({FILE: pa.array(names), column: pa.array(contents, pa.large_binary())})


def skipped(batches: Any, skip: int) -> Iterator[pa.RecordBatch]:
    """Yield batches without their first `skip` rows."""
    for batch in batches:
        if skip < batch.num_rows:
            yield batch.slice(skip)
        skip = max(0, skip - batch.num_rows)


def cut(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield iterators over batches that have so many rows together, at last over what is left; none is copied.

    Each has to be exhausted before the next. A batch is read when it is needed, so that few are held.
    """
    given = filter(len, batches)
    rest: list[pa.RecordBatch] = []

    def part() -> Iterator[pa.RecordBatch]:
        room = rows
        while room and (batch := rest.pop() if rest else next(given, None)) is not None:
            if len(batch) > room:
                rest.append(batch.slice(room))
            yield batch.slice(0, room)
            room -= min(room, len(batch))

    for batch in given:
        rest.append(batch)
        while rest:
            yield part()
