"""Write scored batches as CSV, JSON lines or Parquet."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from scoring.lines import LINE, with_cells
from scoring.sources import CSV, JSON, PARQUET
from serving.tables.database import quoted

OTHER_COLUMNS = "the files of the input have not the same columns in the same order: name a folder as output"


class OutputError(Exception):
    """The output cannot be written or gone on with; the text says what to do."""


@contextlib.contextmanager
def faults(form: str) -> Iterator[None]:
    """Raise OutputError where columns have no such form."""
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise OutputError(f"the rows cannot be written as {form}: {str(error).splitlines()[0]}") from error


def write_file(path: Path, batches: Iterable[pa.RecordBatch], form: str) -> None:
    """Write batches as a file, which is on the disk when this returns; raise OutputError if they have no such form."""
    if form == CSV:
        with path.open("wb") as file:
            write_csv(file, batches)
    else:
        write = write_json if form == JSON else write_parquet
        write(path, pa.Table.from_batches(batches))
    sync(path)


def sync(path: Path) -> None:
    """Return when a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_csv(file: BinaryIO, batches: Iterable[pa.RecordBatch], header: bytes = b"") -> None:
    """Write batches as CSV, the lines in LINE as they stand: behind a header of their own, or rows that have this one.

    Raises OutputError for a batch with another header, and for columns that CSV cannot have.
    """
    names: list[str] = []
    for batch in batches:
        with faults(CSV):
            if batch.schema.names != names:
                names = batch.schema.names
                found = csv_header(names)
                if not header:
                    file.write(found)
                elif found != header:
                    raise OutputError(OTHER_COLUMNS)
                header = found
            table = plain(batch)
            if LINE in names:
                write_lines(file, table)
            else:
                pa.csv.write_csv(table, file, pa.csv.WriteOptions(include_header=False, quoting_style="needed"))


def csv_header(names: list[str]) -> bytes:
    """Return the header of CSV with columns of these names, but for LINE."""
    names = [name for name in names if name != LINE]
    if any("\n" in name or "\r" in name for name in names):
        raise OutputError("the name of a column has a line break, which a header of CSV cannot have here")
    written = io.BytesIO()
    pa.csv.write_csv(pa.schema([(name, pa.string()) for name in names]).empty_table(), written)
    return written.getvalue()


def plain(batch: pa.RecordBatch) -> pa.Table:
    """Return a batch with columns as CSV can have them: no dictionaries, lists or JSON."""
    table = as_text(pa.Table.from_batches([batch]), nested=True)
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(place, column.name, table.column(place).cast(column.type.value_type))
    return table


def write_lines(file: BinaryIO, table: pa.Table) -> None:
    """Write the lines of a table with the cells that are added to them, which are the columns behind LINE."""
    place = table.column_names.index(LINE)
    for batch in table.to_batches():
        lines, *cells = batch.columns[place:]
        text = with_cells(lines, cells)
        # Line breaks stand before the lines.
        file.write(memoryview(text.buffers()[2])[1:])
        file.write(b"\n")


def append_json(file: BinaryIO, batches: Iterable[pa.RecordBatch], unfinished: Path) -> None:
    """Write batches as JSON lines behind what a file has, by way of another file."""
    write_json(unfinished, pa.Table.from_batches(batches))
    with unfinished.open("rb") as rows:
        shutil.copyfileobj(rows, file, 2**20)


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet; raise OutputError where it has no such form."""
    # Numbers seldom repeat: without dictionaries they are written and read in half the time.
    repeating = [column.name for column in table.schema if not is_number(column.type)]
    with faults(PARQUET):
        pa.parquet.write_table(as_text(table, nested=False), path, use_dictionary=repeating)


def is_number(kind: pa.DataType) -> bool:
    """Return whether cells are numbers, or lists of them."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_nested(kind))


def write_json(path: Path, table: pa.Table) -> None:
    """Write a table as JSON lines, JSON as it was read."""
    import duckdb

    names = [(identifier(column.name), isinstance(column.type, pa.JsonType)) for column in table.schema]
    picked = ", ".join(f"CAST({name} AS JSON) AS {name}" if is_json else name for name, is_json in names)
    with faults(JSON), duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.register("scored", pa.table(list(map(stored, table.columns)), names=table.column_names))
        try:
            connection.execute(f"COPY (SELECT {picked} FROM scored) TO {quoted(str(path))} (FORMAT JSON)")  # noqa: S608
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
        except duckdb.Error as error:
            raise OutputError(f"the rows cannot be written as {JSON}: {str(error).splitlines()[0]}") from error


def identifier(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def stored(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of JSON as the text of it, any other as it is."""
    return column.cast(pa.string()) if isinstance(column.type, pa.JsonType) else column


def as_text(table: pa.Table, *, nested: bool) -> pa.Table:
    """Return a table with text in the place of JSON, and with `nested` JSON in the place of lists.

    JSON that is a text becomes this text, without quotation marks.
    """
    import duckdb

    places = [
        place
        for place, column in enumerate(table.schema)
        if isinstance(column.type, pa.JsonType) or (nested and pa.types.is_nested(column.type))
    ]
    if not places:
        return table
    rows = pa.table([stored(table.column(place)) for place in places], names=[f"c{place}" for place in places])
    picked = ", ".join(
        f"CAST(to_json(c{place}) AS VARCHAR) AS c{place}"
        if pa.types.is_nested(table.schema[place].type)
        else f"CAST(c{place} AS JSON) ->> '$' AS c{place}"
        for place in places
    )
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.register("rows", rows)
        texts = connection.sql(f"SELECT {picked} FROM rows").to_arrow_table()  # noqa: S608
    for place, text in zip(places, texts.columns, strict=True):
        table = table.set_column(place, table.column_names[place], text)
    return table


def join_parquet(files: list[Path], target: Path) -> None:
    """Write the rows of Parquet files of one schema into one, a row group at a time."""
    schema = pa.parquet.read_schema(files[0])
    with pa.parquet.ParquetWriter(target, schema) as writer:
        for path in files:
            with pa.parquet.ParquetFile(path) as file:
                if not file.schema_arrow.equals(schema):
                    raise OutputError(OTHER_COLUMNS)
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))
    sync(target)
