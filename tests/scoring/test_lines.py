"""CSV that is passed through line by line has the rows that it has when it is read whole, and the same faults."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import scoring.lines
import scoring.sources
from models.segmentation import Segmentation
from scoring.__main__ import main
from scoring.lines import LINE
from scoring.sources import CSV, Source, SourceError
from scoring.writers import write_csv
from serving.bento.shipped import FOLDER
from tests.scoring.drawn import customers

# Of cells that some readers take for others: quotes, breaks, spaces, blanks, letters of several bytes.
CELLS = st.text(st.sampled_from('a1 ,"\n\r\t.é\x00'), max_size=4)
QUOTED = CELLS.map(lambda text: '"' + text.replace('"', '""') + '"')
ROWS = st.lists(st.one_of(st.sampled_from(["1", "", "$5"]), QUOTED, CELLS), min_size=3, max_size=3).map(",".join)
LINES = st.lists(st.one_of(ROWS, st.sampled_from(["", '"', "1,2", "1,2,3,4"])), max_size=8)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
USED = ["x12", "x5"]
SEGMENTATION = str(FOLDER / "segmentation")


def read(path: Path, *, lines: bool, skip: int = 0) -> tuple[list[pa.RecordBatch], str]:
    """Return the batches of a file, and what is wrong behind them."""
    found: list[pa.RecordBatch] = []
    try:
        for batch in Source(path, CSV).batches(Segmentation, skip, lines=lines):
            found.append(batch)
    except SourceError as error:
        return found, str(error)
    return found, ""


def rows_of(batches: list[pa.RecordBatch]) -> list[list[str]]:
    """Return the rows of batches as Python reads them of the CSV that is written."""
    written = io.BytesIO()
    write_csv(written, batches)
    return list(csv.reader(io.StringIO(written.getvalue().decode(), newline="")))


def cells_of(batches: list[pa.RecordBatch], name: str) -> list[str]:
    """Return the cells of a column."""
    return [cell for batch in batches for cell in batch.column(name).to_pylist()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


def written(source: Path, target: Path, *options: str) -> list[list[str]]:
    """Score a file; return the rows of the CSV that is written."""
    assert main([SEGMENTATION, str(source), str(target), "--rows", "40", *options]) == 0
    return list(csv.reader(io.StringIO(target.read_bytes().decode(), newline="")))


@settings(max_examples=200, deadline=None)
@given(
    lines=LINES,
    end=ENDS,
    last=st.booleans(),
    mark=st.booleans(),
    block=st.integers(12, 60),
    parsed=st.integers(8, 60),
    skip=st.integers(0, 3),
)
@example(lines=['1,2,"a', 'b"'], end="\n", last=True, mark=False, block=20, parsed=20, skip=0)
@example(lines=["1,2,3", "", "4,5,6"], end="\r\n", last=False, mark=True, block=60, parsed=12, skip=1)
def test_a_file_has_the_rows_and_faults_that_it_has_when_read_whole(
    lines: list[str], end: str, last: bool, mark: bool, block: int, parsed: int, skip: int, folder: Path
) -> None:
    path = folder / "in.csv"
    text = end.join(["x12,other,x5", *lines]) + (end if last else "")
    path.write_bytes(b"\xef\xbb\xbf" * mark + text.encode())
    whole, fault = read(path, lines=False, skip=skip)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring.lines, "BLOCK_BYTES", block)
        patch.setattr(scoring.lines, "PARSED_BYTES", parsed)
        passed, same = read(path, lines=True, skip=skip)
    assert same == fault
    if fault:
        return
    for name in USED:
        assert cells_of(passed, name) == cells_of(whole, name)
    if whole:
        assert rows_of(passed) == rows_of(whole)


@pytest.mark.parametrize("odd", ["", 'two\nlines", "and', "\u00e9"], ids=["plain", "of two lines", "not ASCII"])
def test_scores_stand_behind_the_lines(odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = pa.Table.from_pylist([customer.row for customer in customers(300, seed=3)])
    about = [""] * 200 + [odd] + [""] * 99
    table = drawn.append_column("about", pa.array(about)).append_column("place", pa.array(range(300)))
    pa.csv.write_csv(table, tmp_path / "in.csv")
    passed = written(tmp_path / "in.csv", tmp_path / "passed.csv", "--prefix", "p_")
    with monkeypatch.context() as patch:
        patch.setattr(scoring.sources, "csv_lines", scoring.sources.csv_batches)
        assert written(tmp_path / "in.csv", tmp_path / "whole.csv", "--prefix", "p_") == passed
    assert [row[-5] for row in passed[1:]] == [str(place) for place in range(300)]
    assert any(row[-1] for row in passed[1:])


def test_each_line_stays_as_it_stands(tmp_path: Path) -> None:
    lines = ['$5, 1,"a, ""b"""', '"$1,000",1.50,', '"",+1,\'', "six,1,2"]
    (tmp_path / "in.csv").write_text("\r\n".join(["x12,x44,about", *lines]), encoding="utf-8")
    assert main([SEGMENTATION, str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]) == 0
    header, *found = (tmp_path / "out.csv").read_bytes().decode().splitlines(keepends=True)
    assert header.startswith('"x12","x44","about","class_probability"')
    assert [line[: len(given)] for given, line in zip(lines, found, strict=True)] == lines
    assert all(line.endswith("\n") and "\r" not in line for line in found)


def test_what_a_model_does_not_read_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x12,about\n$5,1\n\n$6,2\n", encoding="utf-8")
    (batch,) = Source(tmp_path / "in.csv", CSV).batches(Segmentation, 0, lines=True)
    assert batch.column(LINE).to_pylist() == ["\n$5,1", "\n$6,2"]
    assert batch.column("about").null_count == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("x12,x44\n1,2\n1\n", "Row #3: Expected 2 columns, got 1: 1"),
        ("x12,x44\n1,2\n1,2,3\n", "Row #3: Expected 2 columns, got 3: 1,2,3"),
        ("x12,about\n1,2\n1,\udce9\n", "invalid UTF8"),
        ("x12,about,about\n1,2,3\n", "two columns of the same name"),
        ("x12,error\n1,2\n", "the input has a column error"),
    ],
)
def test_a_fault_in_what_is_not_read_ends_the_run(
    content: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_bytes(content.encode(errors="surrogateescape"))
    assert main([SEGMENTATION, str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]) == 1
    assert told in capsys.readouterr().err.splitlines()[-1]
