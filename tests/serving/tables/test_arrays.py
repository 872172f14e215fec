"""Files that are read at once as arrays, against the same files read cell by cell."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from loadtest import inputs
from models.breast_cancer import BreastCancer
from models.model import InvalidInputError, Model
from models.segmentation import Segmentation
from models.sentiment import Sentiment
from serving.tables import arrays, formats
from serving.tables.formats import Way, read_items, ways
from serving.tables.schema import Schema
from tests.support.rows import written

# Cells as spreadsheets and scripts write them, of columns of segmentation.
WEEKDAYS = ["monday", "friday", "Monday", "a day", "Österreich", ""]
AMOUNTS = ["$5,547.78", "$-5,032.58", "($66.55)", "12", "", "NA"]
NUMBERS = ["0", "-0.0", "-12.", "1e-05", "1.5E+3", "0.1", "123456789012345678901234567890", "5e-324", ""]


def csv(*rows: tuple[str, str, str]) -> bytes:
    """Return rows of weekday, amount and number as CSV, with a column that the model does not read."""
    lines = [
        f'{weekday},"{amount}",{number},x' if amount else f"{weekday},,{number},x" for weekday, amount, number in rows
    ]
    return "\n".join(["x5,x12,x91,x0", *lines]).encode()


def parquet(*rows: tuple[str, str, str]) -> bytes:
    """Return rows of weekday, amount and number as Parquet, all as texts; an empty cell is missing."""
    columns = zip(*rows, strict=True)
    return written(pa.table([[cell or None for cell in column] for column in columns], ["x5", "x12", "x91"]))


def way(path: Path, content: bytes, model: type[Model[Any]] = Segmentation, most: int | None = None) -> Way:
    """Write a file; return the likeliest way to read it."""
    path.write_bytes(content)
    return next(ways(path, Schema(model, most)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rows"


@pytest.mark.parametrize("write", [csv, parquet])
def test_the_values_are_those_of_the_cells(path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    numbers = [*NUMBERS, *(repr(chance.uniform(-1, 1) * 10.0 ** chance.randint(-30, 30)) for _ in range(3000))]
    rows = [(chance.choice(WEEKDAYS), chance.choice(AMOUNTS[:5]), number) for number in numbers if number]
    content = write(*rows, ("monday", "", "0.5"), ("", "", "1"), ("", "$1", ""))
    assert way(path, content).arrays() is not None
    found = read_items(path, Segmentation)
    monkeypatch.setattr(Way, "at_once", lambda _: [])  # cell by cell
    assert np.array_equal(found, read_items(path, Segmentation), equal_nan=True)


def test_measurements_are_read_at_once(path: Path) -> None:
    rows = [inputs.tumour(number) for number in range(5)]
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    found = way(path, "\n".join(lines).encode(), BreastCancer).arrays()
    assert found is not None
    assert {name: values.tolist() for name, values in found.items()} == {
        name: [row[name] for row in rows] for name in rows[0]
    }


@pytest.mark.parametrize(
    "row",
    [
        *((" monday", "1", "1"), ("monday\t", "1", "1"), ("monday\u00a0", "1", "1")),
        *(("monday", "1", number) for number in ("+1", ".5", "1_0", "NA", "nan", "inf", "0x1", "1,5", "1" * 41)),
    ],
)
@pytest.mark.parametrize("write", [csv, parquet])
def test_a_doubtful_cell_is_looked_at_closer(path: Path, write: Any, row: tuple[str, str, str]) -> None:
    row = (row[0], row[1], f'"{row[2]}"' if write is csv and "," in row[2] else row[2])
    assert way(path, write(("monday", "1", "1"), row)).arrays() is None


@pytest.mark.parametrize(
    "content",
    [
        b"x5;x91\nmonday;1\n",
        b"x5,x91\nmonday,1\n,\n",
        b'x5,x91,x0\nmonday,1,"two\nlines"\n',
        b'x5,x91\nmonday,1\n"monday,2\n',
        b"x5,x91\nmonday,1\nmonday\n",
        b"x7\n1\n",
    ],
)
def test_doubtful_lines_are_looked_at_closer(path: Path, content: bytes) -> None:
    assert way(path, content).arrays() is None


def test_what_is_out_of_range_is_told_by_row_and_column(path: Path) -> None:
    found = way(path, csv(*[("monday", "1", "1")] * 3, ("monday", "1", "1e999")))
    with pytest.raises(InvalidInputError) as fault:
        list(found.columns())
    assert fault.value.location == ("file", "data", 3, "x91")


def test_only_files_that_fit_into_memory_are_read_at_once(path: Path) -> None:
    content = csv(*[("monday", "1", "1")] * 3)
    assert way(path, content, most=arrays.MAX_ROWS).arrays() is not None
    assert way(path, content, most=arrays.MAX_ROWS + 1).arrays() is None
    assert way(path, content, most=2).arrays() is None
    assert way(path, b"text\ngood\n", Sentiment).arrays() is None


def test_an_amount_with_many_spaces_is_read(path: Path) -> None:
    content = csv(("monday", f"{' ' * arrays.MAX_NOTATION_BYTES}$5", "1"))
    assert [columns["x12"].tolist() for columns in way(path, content).columns()] == [[5.0]]


def test_all_rows_are_read_in_their_order(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "CHUNK_ROWS", 4)
    rows = [("monday", str(number), str(number)) for number in range(10)]
    found = list(way(path, csv(*rows)).columns())
    assert [values for columns in found for values in columns["x12"].tolist()] == list(map(float, range(10)))
    assert [len(columns["x91"]) for columns in found] == [4, 4, 2]
