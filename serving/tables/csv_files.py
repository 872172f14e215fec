"""Read CSV in pieces, whatever its delimiter."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.model import Array
from serving.tables.arrays import are_possible, array_of_text, arrays, has_row_without_values
from serving.tables.database import bounded, connect, fetch, quoted
from serving.tables.schema import Cells, Schema, invalid

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MAX_COLUMNS = 10_000
MAX_LINE_BYTES = 2**20
BUFFER_BYTES = 2**23
# Cells may have several lines.
MAX_LINES = 5_000_000
BLOCK_BYTES = 2**20


# How DuckDB begins its message about a faulty line, and what it says of the number of cells.
FAULTY_LINE = re.compile(r"Invalid Input Error: CSV Error on Line: (\d+)\n")
FAULTY_WIDTH = re.compile(r"^Expected Number of Columns: \d+ Found: (\d+)$", re.MULTILINE)


class UnreadableError(Exception):
    """Lines of a CSV file do not follow the dialect; its text is the message for the client."""


@dataclass(frozen=True)
class Csv:
    """A CSV file in UTF-8 with a header, and its dialect."""

    path: Path
    schema: Schema
    header: list[str]
    delimiter: str
    # What stands before a quotation mark in a quoted cell.
    escape: str = '"'

    def sql(self) -> str:
        """Return the SQL that reads the cells as text, in columns c0, c1 and so on."""
        names = ", ".join(f"c{i}: 'VARCHAR'" for i in range(len(self.header)))
        # In parallel, cells of several lines are read wrongly where buffers meet.
        reader = (
            "read_csv(?, auto_detect = false, parallel = false, header = false, skip = 1, compression = 'none', "
            f"columns = {{{names}}}, delim = {quoted(self.delimiter)}, quote = '\"', escape = {quoted(self.escape)}, "
            f"max_line_size = {MAX_LINE_BYTES}, buffer_size = {BUFFER_BYTES}, allow_quoted_nulls = false, "
            "hive_partitioning = false)"
        )
        # Of a single column, an empty line is no row, a quoted empty cell is one.
        return f"{reader} WHERE c0 IS NOT NULL" if len(self.header) == 1 else reader

    def picked(self, cell: Callable[[str, str, Schema], str]) -> dict[str, str]:
        """Return the SQL for each column that the model reads, as `cell` makes it of name, column and schema."""
        return {name: cell(name, f"c{i}", self.schema) for name, i in self.schema.positions(self.header).items()}

    def arrays(self) -> dict[str, Array] | None:
        """Return the columns of all rows, or None where a line or a cell needs a closer look.

        Between other delimiters than commas, numbers may have commas that need one.
        """
        import duckdb

        if self.delimiter != "," or not are_possible(self.schema):
            return None
        rows = self.lines(empty=False) - 1
        if rows > self.schema.max_rows:
            return None
        with connect(self.path) as connection:
            try:
                found = arrays(connection, self.picked(array_of_text), self.sql(), self.path, self.schema)
            except duckdb.Error:
                return None
        if not found or len(next(iter(found.values()))) != rows or has_row_without_values(found):
            return None
        return found

    def cells(self) -> Iterator[Cells]:
        """Yield the cells of some rows at a time; UnreadableError for a line that does not follow the dialect."""
        import duckdb

        rows = 0
        empty = False
        points = Points(self.schema.numeric if self.delimiter == ";" else [])
        with connect(self.path) as connection:
            try:
                for cells in fetch(connection, self.picked(bounded), self.sql(), self.path, self.schema):
                    for name in self.schema.notations if self.delimiter != "," else ():
                        refuse_commas(name, list(cells.get(name, ())), rows)
                    points.see(cells, rows)
                    empty = empty or has_empty_row(cells)
                    rows += len(next(iter(cells.values())))
                    yield cells
            except duckdb.OutOfMemoryException as error:
                message = "the lines of the file are too long, or too many of them are empty"
                raise invalid(message, "csv") from error
            except duckdb.Error as error:
                raise UnreadableError(self.fault(str(error))) from error
        self.check_lines(rows, empty=empty)
        points.check()

    def fault(self, message: str) -> str:
        """Return in our words what DuckDB says of a line, which it quotes."""
        line = FAULTY_LINE.match(message)
        if line is None:
            return "the file is not JSON, Parquet or UTF-8 CSV"
        if found := FAULTY_WIDTH.search(message):
            return f"line {line[1]} has {found[1]} cells, the header has {len(self.header)}"
        if "Maximum line size" in message:
            return f"line {line[1]} takes more than {MAX_LINE_BYTES:,} bytes"
        if "not utf-8 encoded" in message:
            return f"line {line[1]} is not UTF-8"
        return f"line {line[1]} has a quotation mark too many or too few"

    def check_lines(self, rows: int, *, empty: bool) -> None:
        """Raise InvalidInputError unless the file has as many lines as rows, or as many records.

        DuckDB passes over all that follows a quotation mark without its counterpart.
        """
        if self.lines(empty=empty) != rows + 1 and self.records() != rows + 1:
            raise invalid("a quotation mark has no counterpart, or a cell is too long", "csv")

    def lines(self, *, empty: bool) -> int:
        """Return the number of lines that are not blank; raise InvalidInputError for too many.

        Where `empty` rows were found, a line without values is refused, as spreadsheets write below the last row.
        """
        nothing = self.delimiter * (len(self.header) - 1)
        lines = 0
        with self.path.open(encoding="latin-1") as file:
            for number, line in enumerate(file, 1):
                if number > MAX_LINES:
                    raise invalid(f"the file has more than {MAX_LINES:,} lines", "too_long")
                if empty and nothing and line.rstrip("\n").replace(" ", "").replace('"', "") == nothing:
                    raise invalid(f"line {number} has no values: leave it out", "csv")
                lines += not line.isspace()
        return lines

    def records(self) -> int:
        """Count the records, the header among them, whose cells may have several lines; slow."""
        escape = {"doublequote": True} if self.escape == '"' else {"doublequote": False, "escapechar": self.escape}
        with self.path.open(encoding="latin-1", newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter, skipinitialspace=True, **escape)
            try:
                return sum(1 for record in reader if record)
            except csv.Error:
                return 0


def read_header(path: Path, schema: Schema) -> Csv:
    """Read the first line; between its cells stands the delimiter by which most of them are columns."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        start = file.read(MAX_LINE_BYTES)
    if not start.strip():
        raise invalid("the file has no rows", "too_short")
    headers = {delimiter: first_record(start, delimiter) for delimiter in DELIMITERS}
    delimiter = max(headers, key=lambda candidate: schema.names.count(headers[candidate]))
    header = headers[delimiter]
    if not schema.names.count(header):
        understood = ", ".join(DELIMITERS.values())
        raise invalid(
            f"the first line has none of the columns {schema.listing}, whose names are separated by {understood}",
            "missing",
        )
    if len(header) > MAX_COLUMNS:
        raise invalid(f"the file has more than {MAX_COLUMNS:,} columns", "too_long")
    return Csv(path, schema, header, delimiter)


def first_record(text: str, delimiter: str) -> list[str]:
    """Return the cells of a CSV text's first line, at most one more than MAX_COLUMNS."""
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True), [])[
            : MAX_COLUMNS + 1
        ]
    except csv.Error:  # such as a cell of more than 128 KiB
        return []


def has_empty_row(cells: Cells) -> bool:
    """Return whether a row has nothing but spaces in its cells."""
    rows: Iterable[int] = range(len(next(iter(cells.values()))))
    for column in cells.values():
        rows = [row for row in rows if not (column[row] or "").strip()]
    return bool(rows)


def refuse_commas(name: str, amounts: list[Any], first_row: int) -> None:
    """Raise InvalidInputError for '1,234' where commas do not separate cells: it may be a decimal comma."""
    for row, amount in enumerate(amounts, first_row):
        if amount and "," in amount and "." not in amount:
            message = "the comma may stand before decimals or thousands: write 1234.5"
            raise invalid(message, "ambiguous_comma", "data", row, name)


class Points:
    """A check that points are decimal points, in a file where they may separate thousands, as in '1.250'."""

    def __init__(self, doubtful: list[str]) -> None:
        self.doubtful = doubtful
        self.first: tuple[int, str] | None = None

    def see(self, cells: Cells, first_row: int) -> None:
        """Look through some rows for a number such as '0.5', which settles it."""
        for name in self.doubtful:
            for row, value in enumerate(cells.get(name, ()), first_row):
                whole, point, decimals = (value or "").strip(" +-$()").partition(".")
                if not point:
                    continue
                if len(decimals) != 3 or not 1 <= len(whole) <= 3 or whole.startswith("0"):
                    self.doubtful = []
                    return
                self.first = self.first or (row, name)

    def check(self) -> None:
        """Raise InvalidInputError when there were points and none settled it."""
        if self.doubtful and self.first is not None:
            message = "the point may stand before decimals or thousands: separate cells by commas, or write 1250.0"
            raise invalid(message, "ambiguous_point", "data", *self.first)


def dialects(path: Path, schema: Schema) -> Iterator[Csv]:
    """Yield a CSV file in the dialects that it may be written in, the likeliest first."""
    check_line_lengths(path)
    file = read_header(path, schema)
    if len(file.header) == 1:
        check_returns(path)
    yield file
    if any(b'\\"' in block for block in blocks(path, overlap=1)):
        yield replace(file, escape="\\")
    if has_mixed_line_ends(path):
        with tempfile.TemporaryDirectory() as folder:
            yield replace(file, path=with_unix_lines(path, Path(folder) / "rows.csv"))


def blocks(path: Path, overlap: int = 0) -> Iterator[bytes]:
    """Yield a file in blocks, each preceded by the last `overlap` bytes of the one before."""
    last = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield last + block
            last = block[-overlap:] if overlap else b""


def check_line_lengths(path: Path) -> None:
    """Raise InvalidInputError for lines so long that DuckDB would pass over them without a word."""
    if any(len(block) == BLOCK_BYTES and b"\n" not in block and b"\r" not in block for block in blocks(path)):
        raise invalid(f"a line takes more than {MAX_LINE_BYTES:,} bytes", "csv")


def check_returns(path: Path) -> None:
    """Raise InvalidInputError where carriage returns stand alone among lines that end otherwise, outside of quotes.

    They would end a row, too, of a file of one column, in which nothing else tells how many rows there are.
    """
    lone = ends = False
    quoted = False
    for block in blocks(path, overlap=0):
        for number, part in enumerate(block.replace(b"\r\n", b"\n").split(b'"')):
            quoted ^= number > 0
            if not quoted:
                lone, ends = lone or b"\r" in part.rstrip(b"\r"), ends or b"\n" in part
        if lone and ends:
            raise invalid("a carriage return stands in a cell without quotes", "csv")


def has_mixed_line_ends(path: Path) -> bool:
    """Return whether some lines end as on Windows and some as on Unix."""
    with path.open(encoding="latin-1") as file:
        while file.read(BLOCK_BYTES):
            if isinstance(file.newlines, tuple):
                return True
    return False


def with_unix_lines(path: Path, copy: Path) -> Path:
    """Copy a file so that all lines end as on Unix."""
    with path.open(encoding="latin-1") as source, copy.open("w", encoding="latin-1", newline="\n") as target:
        while block := source.read(BLOCK_BYTES):
            target.write(block)
    return copy
