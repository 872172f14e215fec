"""CSV whose lines are passed through as they stand: only the columns that a model reads become arrays."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from models.model import Model
from serving.tables.csv_files import read_header
from serving.tables.schema import Schema

# The column that has the lines, each behind the line break before it. No column of CSV that is written has such a name.
LINE = "\n(the line as it stands)"
# What is read at a time; a line may be no longer.
BLOCK_BYTES = 2**23
# What of it Arrow parses at a time: this much stays in the processor's cache.
PARSED_BYTES = 2**20


class OddLinesError(Exception):
    """Not each row is plainly a line from here on."""


def line_batches(path: Path, model: type[Model[Any]]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file, as Arrow's reader of whole files has them.

    A batch has the columns of the file, null unless the model reads them, and LINE. Raises OddLinesError before rows
    of several lines, and before any that cannot be read: what is wrong is left to others to say.
    """
    schema = Schema(model)
    if read_header(path, schema).delimiter != ",":
        raise OddLinesError
    with path.open("rb") as file:
        header = file.readline(BLOCK_BYTES)
    names = names_in(header)
    try:
        used = [names[place] for place in schema.positions(names).values()]
        if not used or len(set(names)) < len(names):
            raise OddLinesError
        for block in blocks(path, len(header) - 1):
            yield rows_in(block, names, used)
    except (pa.ArrowInvalid, ValueError):
        raise OddLinesError from None


def names_in(header: bytes) -> list[str]:
    """Return the names of the columns; raise OddLinesError where they are not plainly one whole line."""
    line = header.removesuffix(b"\n").removesuffix(b"\r")
    if line == header or b"\r" in line or not is_row(line.decode("latin-1")):
        raise OddLinesError
    names: list[str] = pa.csv.read_csv(io.BytesIO(header)).column_names
    return names


def is_row(line: str) -> bool:
    """Return whether a row that begins with a line ends with it; False for odd ones that do."""
    try:
        return len(list(csv.reader([line], strict=True))) == 1
    except csv.Error:
        return False


def blocks(path: Path, start: int) -> Iterator[pa.Buffer]:
    """Yield a file from the line break at `start` on, some lines at a time, each behind a line break of one byte.

    Raises OddLinesError for a line that is longer than a block.
    """
    with pa.OSFile(str(path)) as file:
        size = file.size()
        while start < size:
            file.seek(start)
            block = file.read_buffer(BLOCK_BYTES)
            end = len(block) if start + len(block) == size else last_break(block)
            if end <= 0:
                raise OddLinesError
            yield with_plain_ends(block.slice(0, end))
            start += end


def last_break(block: pa.Buffer) -> int:
    """Return the place of the last line break."""
    # The end alone first, which is not much to copy.
    tail: bytes = block.slice(max(0, len(block) - 2**13)).to_pybytes()
    if b"\n" not in tail:
        tail = block.to_pybytes()
    return len(block) - len(tail) + tail.rfind(b"\n")


def with_plain_ends(block: pa.Buffer) -> pa.Buffer:
    """Return lines that end as on Unix; raise OddLinesError for a carriage return elsewhere."""
    if (np.frombuffer(block, np.uint8) == ord("\r")).any():
        text = block.to_pybytes().removesuffix(b"\r").replace(b"\r\n", b"\n")
        if b"\r" in text:
            raise OddLinesError
        return pa.py_buffer(text)
    return block


def rows_in(block: pa.Buffer, names: list[str], used: list[str]) -> pa.RecordBatch:
    """Return a batch of the lines in a block; raise OddLinesError where not each is a row, or ArrowInvalid."""
    lines = lines_in(block)  # which finds out whether they are UTF-8
    read = pa.csv.read_csv(
        pa.BufferReader(block),
        pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=PARSED_BYTES),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(
            include_columns=used,
            column_types=dict.fromkeys(used, pa.string()),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    # Each row takes a line at least. In the last one, a cell may go on in the next block.
    if read.num_rows != len(lines) or (lines and not is_row(lines[-1].as_py()[1:])):
        raise OddLinesError
    unread = pa.nulls(len(lines))
    columns = [read.column(name).combine_chunks() if name in used else unread for name in names]
    return pa.record_batch([*columns, lines], names=[*names, LINE])


def lines_in(block: pa.Buffer) -> pa.StringArray:
    """Return the lines that are not empty, each with the line break before it; raise ArrowInvalid if not UTF-8."""
    places = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")).astype(np.int32)
    ends = pa.py_buffer(np.append(places, np.int32(len(block))))
    lines = pa.StringArray.from_buffers(len(places), ends, block)
    lines.validate(full=True)
    is_empty = np.diff(places, append=len(block)) == 1
    return lines.filter(pa.array(~is_empty)) if is_empty.any() else lines


def with_cells(lines: pa.Array, columns: list[pa.Array]) -> pa.Array:
    """Return lines with cells of plain columns added, as Arrow writes them."""
    return pc.binary_join_element_wise(lines, *map(cells_of, columns), ",")


def cells_of(column: pa.Array) -> pa.Array | pa.Scalar:
    """Return a column as cells of CSV, one where all are equal: texts between quotation marks, nothing for null."""
    if not pa.types.is_string(column.type):
        return pc.fill_null(column.cast(pa.string()), "")
    encoded = column.dictionary_encode(null_encoding="encode")
    texts = pc.replace_substring(encoded.dictionary, '"', '""')
    cells = pc.fill_null(pc.binary_join_element_wise('"', texts, '"', ""), "")
    return cells[0] if len(cells) == 1 else cells.take(encoded.indices)
