"""Write scored rows in parts, each whole or not there, and join them into one file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from scoring.lines import LINE, with_cells
from scoring.sources import CSV, JSON, PARQUET
from serving.tables.database import quoted

MANIFEST = "_manifest.json"
# How the names of files begin that are being written.
UNFINISHED = "_unfinished"
OTHER_COLUMNS = "the files of the input have not the same columns in the same order: name a folder as output"


class PartsError(Exception):
    """The output cannot be written or gone on with; the text says what to do."""


@dataclass(frozen=True)
class Part:
    """A part that is done: of which source, up to which of its rows, and what it has."""

    source: int
    end: int
    rows: int
    bad_rows: int
    faults: list[tuple[str, str, int]] = field(default_factory=list)

    def counted(self) -> Counter[tuple[str, str]]:
        """Return the faulty cells by column and kind."""
        return Counter({(column, kind): count for column, kind, count in self.faults})


class Parts:
    """A folder of parts in a format, `part-00000.csv` and so on, with a file that tells what each has.

    A part is there when its file of facts is: both are written under another name first, the facts last.
    """

    def __init__(self, folder: Path, form: str) -> None:
        self.folder = folder
        self.form = form

    def open(self, manifest: dict[str, Any]) -> list[Part]:
        """Make the folder for a run, or go on with that of an equal one; return the parts that are done.

        Raises PartsError where the folder is that of another run, or has other files.
        """
        file = self.folder / MANIFEST
        if file.is_file():
            known = json.loads(file.read_text(encoding="utf-8"))
            if differing := [name for name in manifest if known.get(name) != manifest[name]]:
                raise PartsError(
                    f"{self.folder} was begun with another {' and '.join(differing)}: remove it, or name another output"
                )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(not file.name.startswith("_") for file in self.folder.iterdir()):
                raise PartsError(f"{self.folder} has files, but none of ours: name another output")
            write_whole(file, json.dumps(manifest, indent=1).encode())
        done: list[Part] = []
        while (facts := self.facts(len(done))).is_file():
            found = json.loads(facts.read_text(encoding="utf-8"))
            done.append(Part(**found | {"faults": [tuple(fault) for fault in found["faults"]]}))
        return done

    def path(self, number: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{number:05}.{self.form}"

    def facts(self, number: int) -> Path:
        """Return the file that tells what a part has; other readers of the folder pass over it."""
        return self.folder / f"_part-{number:05}.json"

    def write(self, number: int, tables: Sequence[pa.Table], part: Part) -> None:
        """Write a part, of one table or of some with the same columns, and, once it is there, what it has."""
        path = self.path(number)
        unfinished = self.folder / f"{UNFINISHED}.{self.form}"
        write_rows(unfinished, tables, self.form)
        unfinished.replace(path)
        write_whole(self.facts(number), json.dumps(asdict(part)).encode())

    def join(self, count: int, target: Path) -> None:
        """Join the parts into one file, which is there when it is whole."""
        unfinished = self.folder / f"{UNFINISHED}-joined.{self.form}"
        files = [self.path(number) for number in range(count)]
        if self.form == PARQUET:
            join_parquet(files, unfinished)
        else:
            join_text(files, unfinished, header=self.form == CSV)
        unfinished.replace(target)


def write_rows(path: Path, tables: Sequence[pa.Table], form: str) -> None:
    """Write tables as a file and have it on the disk when this returns; raise PartsError if they have no such form.

    There may be several of CSV, with the same columns, but for LINE.
    """
    try:
        if form == CSV:
            with path.open("wb") as file:
                for place, table in enumerate(tables):
                    write_csv(file, as_text(table, nested=True), header=not place)
        elif form == JSON:
            (table,) = tables
            write_json(path, table)
        else:
            (table,) = tables
            # Numbers seldom repeat: without dictionaries they are written and read in half the time.
            repeating = [column.name for column in table.schema if not is_number(column.type)]
            pa.parquet.write_table(as_text(table, nested=False), path, use_dictionary=repeating)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise PartsError(f"the rows cannot be written as {form}: {str(error).splitlines()[0]}") from error
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def is_number(kind: pa.DataType) -> bool:
    """Return whether cells are numbers, or lists of them."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_nested(kind))


def write_csv(file: BinaryIO, table: pa.Table, *, header: bool) -> None:
    """Write a table of plain columns as CSV, the lines in LINE as they stand."""
    names = [name for name in table.column_names if name != LINE]
    if any("\n" in name or "\r" in name for name in names):
        raise PartsError("the name of a column has a line break, which a header of CSV cannot have here")
    for place, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(place, column.name, table.column(place).cast(column.type.value_type))
    options = pa.csv.WriteOptions(quoting_style="needed", include_header=header)
    if LINE in table.column_names:
        pa.csv.write_csv(table.select(names).slice(0, 0), file, options)
        write_lines(file, table)
    else:
        pa.csv.write_csv(table, file, options)


def write_lines(file: BinaryIO, table: pa.Table) -> None:
    """Write the lines of a table with the cells that are added to them, which are the columns behind LINE."""
    place = table.column_names.index(LINE)
    for batch in table.to_batches():
        lines, *cells = batch.columns[place:]
        text = with_cells(lines, cells)
        # Line breaks stand before the lines.
        file.write(memoryview(text.buffers()[2])[1:])
        file.write(b"\n")


def write_json(path: Path, table: pa.Table) -> None:
    """Write a table as JSON lines, JSON as it was read."""
    import duckdb

    names = [(identifier(column.name), isinstance(column.type, pa.JsonType)) for column in table.schema]
    picked = ", ".join(f"CAST({name} AS JSON) AS {name}" if is_json else name for name, is_json in names)
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        connection.register("scored", pa.table(list(map(stored, table.columns)), names=table.column_names))
        try:
            connection.execute(f"COPY (SELECT {picked} FROM scored) TO {quoted(str(path))} (FORMAT JSON)")  # noqa: S608
        except duckdb.IOException as error:
            raise OSError(str(error)) from error
        except duckdb.Error as error:
            raise PartsError(f"the rows cannot be written as JSON: {str(error).splitlines()[0]}") from error


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
                    raise PartsError(OTHER_COLUMNS)
                for group in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(group))


def join_text(files: list[Path], target: Path, *, header: bool) -> None:
    """Write text files one after the other; of their headers the first, and PartsError where another differs."""
    first = b""
    with target.open("wb") as joined:
        for path in files:
            with path.open("rb") as file:
                if header:
                    line = file.readline()
                    if first and line != first:
                        raise PartsError(OTHER_COLUMNS)
                    if not first:
                        joined.write(line)
                    first = line
                copy_rest(file, joined)
        joined.flush()
        os.fsync(joined.fileno())


def copy_rest(file: BinaryIO, joined: BinaryIO) -> None:
    """Append what follows in a file to another, where the system can without a way through this process."""
    joined.flush()
    start = file.tell()
    with contextlib.suppress(AttributeError, OSError):  # of systems, and of file systems, that cannot
        while copied := os.copy_file_range(file.fileno(), joined.fileno(), 2**30, start):
            start += copied
    file.seek(start)
    joined.seek(0, os.SEEK_END)
    shutil.copyfileobj(file, joined)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there only when it is whole."""
    unfinished = path.with_name(f"{UNFINISHED}-{path.name}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
