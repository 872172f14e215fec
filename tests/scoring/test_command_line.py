"""`python -m scoring`: formats, folders, pictures, going on, and what goes wrong."""

from __future__ import annotations

import datetime
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import scoring.parts
from scoring.__main__ import main
from scoring.parts import Parts
from serving.bento.shipped import FOLDER
from tests.scoring.conftest import Run
from tests.scoring.drawn import customers
from tests.support import ROOT
from tests.support.photos import photo

WAIT_SECONDS = 120
# Folders, since BentoML, which finds a model by its name, takes a second to import.
BREAST_CANCER, IMAGE, SEGMENTATION, SENTIMENT = (
    str(FOLDER / name) for name in ("breast_cancer", "image", "segmentation", "sentiment")
)


def write_customers(path: Path, rows: int, seed: int = 1) -> Path:
    """Write drawn customers as Parquet."""
    pa.parquet.write_table(pa.Table.from_pylist([drawn.row for drawn in customers(rows, seed)]), path)
    return path


def read_parts(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder of Parquet as other programs read it."""
    rows: list[dict[str, Any]] = pa.parquet.read_table(folder).to_pylist()
    return rows


def test_the_parts_of_a_folder_are_those_of_a_file(scoring: Run, tmp_path: Path) -> None:
    source = write_customers(tmp_path / "in.parquet", 250)
    for target in (tmp_path / "parts", tmp_path / "out.parquet"):
        assert scoring(SEGMENTATION, source, target, "--rows", "100").returncode == 0
    assert len(list((tmp_path / "parts").glob("part-*.parquet"))) == 3
    assert read_parts(tmp_path / "parts") == read_parts(tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_folder_of_files_is_read_in_the_order_of_names(scoring: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, text in (("b.csv", "dull"), ("a.csv", "a delight")):
        (tmp_path / "in" / name).write_text(f'id,text\n1,"{text}, \nsaid ""she"""\n', encoding="utf-8")
    assert scoring(SENTIMENT, tmp_path / "in", tmp_path / "out.jsonl").returncode == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["text"] for row in rows] == ['a delight, \nsaid "she"', 'dull, \nsaid "she"']
    assert [row["label"] for row in rows] == ["POSITIVE", "NEGATIVE"]


def test_json_lines_keep_what_the_model_does_not_read(scoring: Run, tmp_path: Path) -> None:
    rows = [{"text": "dull", "about": {"a": [1, None]}}, {"id": 7, "text": 5}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert scoring(SENTIMENT, tmp_path / "in.jsonl", tmp_path / "out.jsonl").returncode == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert found[0]["about"] == {"a": [1, None]}
    assert (found[1]["id"], found[1]["text"], found[1]["label"]) == (7, 5, None)
    assert found[1]["error"] == "text: Input should be a valid string"


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_come_from_a_folder_or_an_archive(packed: bool, scoring: Run, tmp_path: Path) -> None:
    contents = {"a.png": photo(), "b/c.jpg": photo("JPEG"), "d.txt": b"no picture"}
    source = tmp_path / "in"
    if packed:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        for name, content in contents.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(content)
    done = scoring(IMAGE, source, tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    rows = pa.csv.read_csv(tmp_path / "out.csv").to_pylist()
    assert [row["file"] for row in rows] == list(contents)
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert "image" not in rows[0]


def test_the_summary_counts_faults_by_kind(scoring: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x12,x44\n$5,1\nfive,2\nsix,three\n", encoding="utf-8")
    done = scoring(SEGMENTATION, tmp_path / "in.csv", tmp_path / "out.csv")
    assert done.returncode == 0, done.stderr
    cells = [[cell.strip() for cell in line.strip("│┃ ").split("│")] for line in done.stdout.splitlines()]
    assert ["scored", "1"] in cells
    assert ["bad", "2"] in cells
    assert ["x12: money", "2"] in cells
    assert ["x44: float_parsing", "1"] in cells


def test_strict_stops_at_the_first_bad_row(scoring: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x12\n$5\n$6\nseven\neight\n", encoding="utf-8")
    done = scoring(SEGMENTATION, tmp_path / "in.csv", tmp_path / "out.csv", "--strict")
    assert done.returncode == 1
    assert "row 2: x12: Input should be a number or an amount" in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("name", ["parts", "out.csv"])
def test_a_killed_run_goes_on_where_it_was(name: str, store: Path, scoring: Run, tmp_path: Path) -> None:
    source, target = write_customers(tmp_path / "in.parquet", 20_000), tmp_path / name
    parts = target if name == "parts" else tmp_path / "out.csv.parts"
    arguments = [SEGMENTATION, str(source), str(target), "--rows", "50"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scoring", *arguments], cwd=ROOT, env={**os.environ, "BENTOML_HOME": str(store)}
    )
    third = parts / "_part-00002.json"
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not third.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = sorted(parts.glob("_part-*.json"))
    assert 3 <= len(done) < 400
    times = {file: file.stat().st_mtime_ns for file in done}
    assert scoring(*arguments).returncode == 0
    whole = tmp_path / f"whole{source.suffix if name == 'parts' else target.suffix}"
    assert scoring(SEGMENTATION, source, whole).returncode == 0
    if name == "parts":
        assert {file: file.stat().st_mtime_ns for file in done} == times
        assert read_parts(parts) == read_parts(whole)
    else:
        assert target.read_bytes() == whole.read_bytes()


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of each part that is written."""
    found: list[int] = []
    write = Parts.write

    def noted(self: Parts, number: int, *arguments: Any) -> None:
        found.append(number)
        write(self, number, *arguments)

    monkeypatch.setattr(Parts, "write", noted)
    return found


def interrupted(arguments: list[str], parts: int) -> None:
    """Score files, and stop when so many parts are done and the rows of the next, but not its facts, are written."""
    write_whole = scoring.parts.write_whole

    def stop(path: Path, content: bytes) -> None:
        if path.name == f"_part-{parts:05}.json":
            raise KeyboardInterrupt
        write_whole(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring.parts, "write_whole", stop)
        assert main(arguments) == 130


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_goes_on_behind_the_last_part_that_is_done(form: str, numbers: list[int], tmp_path: Path) -> None:
    source = str(write_customers(tmp_path / "in.parquet", 500))
    arguments = [SEGMENTATION, source, str(tmp_path / f"out.{form}"), "--rows", "100"]
    interrupted(arguments, 2)
    assert not (tmp_path / f"out.{form}").exists()
    assert main(arguments) == 0
    assert numbers == [0, 1, 2, 2, 3, 4]
    assert main([SEGMENTATION, source, str(tmp_path / f"whole.{form}"), "--rows", "100"]) == 0
    assert (tmp_path / f"out.{form}").read_bytes() == (tmp_path / f"whole.{form}").read_bytes()
    assert not (tmp_path / f"out.{form}.parts").exists()


@pytest.mark.parametrize(("kept", "again"), [(0, [0, 1, 2]), (100, [0, 1, 2]), (-1, [1, 2])])
def test_parts_whose_rows_are_gone_are_done_again(
    kept: int, again: list[int], numbers: list[int], tmp_path: Path
) -> None:
    arguments = [SEGMENTATION, str(write_customers(tmp_path / "in.parquet", 300)), str(tmp_path / "out.csv")]
    assert main([*arguments[:2], str(tmp_path / "whole.csv")]) == 0
    interrupted([*arguments, "--rows", "100"], 2)
    facts = json.loads((tmp_path / "out.csv.parts" / "_part-00001.json").read_text(encoding="utf-8"))
    os.truncate(tmp_path / "out.csv.parts" / "_unfinished-whole.csv", kept if kept >= 0 else facts["size"] + kept)
    numbers.clear()
    assert main([*arguments, "--rows", "100"]) == 0
    assert numbers == again
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_files_with_other_columns_do_not_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("x12,a\n$5,1\n", encoding="utf-8")
    (tmp_path / "in" / "b.csv").write_text("x12,b\n$5,1\n", encoding="utf-8")
    assert main([SEGMENTATION, str(tmp_path / "in"), str(tmp_path / "out.csv")]) == 1
    assert "not the same columns in the same order: name a folder" in capsys.readouterr().err
    assert main([SEGMENTATION, str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("part-*.csv"))) == 2


def test_a_run_that_is_done_does_nothing_again(scoring: Run, tmp_path: Path) -> None:
    source = write_customers(tmp_path / "in.parquet", 100)
    first = scoring(SEGMENTATION, source, tmp_path / "parts")
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").iterdir() if file.name != "_lock"}
    again = scoring(SEGMENTATION, source, tmp_path / "parts")
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "parts").iterdir() if file.name != "_lock"} == times


@pytest.mark.parametrize(
    ("model", "rows", "told"), [(BREAST_CANCER, 100, "model"), (SEGMENTATION, 101, "input")], ids=str
)
def test_parts_of_another_run_are_not_gone_on_with(
    model: str, rows: int, told: str, scoring: Run, tmp_path: Path
) -> None:
    assert scoring(SEGMENTATION, write_customers(tmp_path / "in.parquet", 100), tmp_path / "parts").returncode == 0
    done = scoring(model, write_customers(tmp_path / "in.parquet", rows), tmp_path / "parts")
    assert done.returncode == 1
    assert f"was begun with another {told}" in done.stderr


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("absent.csv", "there is no"),
        ("in.xlsx", "the name must end with"),
        ("empty.csv", "the file has no rows"),
        ("short.csv", "short.csv: CSV parse error: Row #2: Expected 2 columns, got 1"),
        ("open.csv", "open.csv: a quotation mark has no counterpart: it begins a cell of 2 lines"),
        ("semicolons.csv", "cells must be separated by commas or tabs"),
        ("latin.csv", "invalid UTF8"),
        ("words.csv", "none of the columns"),
        ("header.csv", "the input has no rows"),
        ("array.json", "array.json: "),
        ("broken.jsonl", "broken.jsonl: "),
        ("broken.parquet", "broken.parquet: Parquet magic bytes not found"),
        ("folder", "has no files"),
    ],
)
def test_input_that_cannot_be_read_gets_one_line(
    source: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {
        "in.xlsx": b"",
        "empty.csv": b"",
        "short.csv": b"x12,x44\n$5\n",
        "open.csv": b'x12,note\n$5,a\n$6,"b\n$7,c\n',
        "semicolons.csv": b"x12;x44\n1;2\n",
        "latin.csv": b"x12,x5\n1,\xe9\n",
        "words.csv": b"a,b\n1,2\n",
        "header.csv": b"x12,x44\n",
        "array.json": b'[{"x12": 1},\n{"x12": 2}]',
        "broken.jsonl": b'{"x12": 1}\n{"x12": \n',
        "broken.parquet": b"PAR1 and no more",
    }
    (tmp_path / "folder").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert main([SEGMENTATION, str(tmp_path / source), str(tmp_path / "out.csv")]) == 1
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_cannot_be_written_gets_one_line(scoring: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x12\n$5\n", encoding="utf-8")
    done = scoring(SEGMENTATION, tmp_path / "in.csv", tmp_path / "in.csv" / "out.csv")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"cannot write {tmp_path / 'in.csv' / 'out.csv'}: Not a directory"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_disk_that_is_full_gets_one_line_and_the_run_goes_on_later(form: str, scoring: Run, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source = write_customers(tmp_path / "in.parquet", 2_000)
    arguments = [SEGMENTATION, str(source), str(tmp_path / f"out.{form}"), "--rows", "2000"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    full = scoring(*arguments, preexec_fn=limit)
    assert full.returncode == 1
    assert full.stderr.splitlines()[-1].startswith(f"cannot write {tmp_path}")
    assert not (tmp_path / f"out.{form}").exists()
    assert scoring(*arguments).returncode == 0
    assert (tmp_path / f"out.{form}").exists()


def test_an_output_that_is_there_is_left_alone(scoring: Run, tmp_path: Path) -> None:
    source = write_customers(tmp_path / "in.parquet", 10)
    done = scoring(SEGMENTATION, source, source)
    assert done.returncode == 1
    assert "exists" in done.stderr
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "mine.txt").touch()
    done = scoring(SEGMENTATION, source, tmp_path / "others")
    assert done.returncode == 1
    assert "name another output" in done.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_columns_of_any_type_are_kept(form: str, tmp_path: Path) -> None:
    columns = {
        "x12": pa.array(["$5", None]),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "price": pa.array([Decimal("1.50"), None]),
        "day": pa.array([datetime.date(2026, 11, 27), None]),
        "list": pa.array([[1, 2], None]),
        "flag": pa.array([True, None]),
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "in.parquet")
    assert main([SEGMENTATION, str(tmp_path / "in.parquet"), str(tmp_path / f"out.{form}")]) == 0
    text = (tmp_path / f"out.{form}").read_bytes()
    if form == "parquet":
        kept = pa.parquet.read_table(tmp_path / "out.parquet").select(list(columns)).to_pylist()
        assert kept == pa.table(columns).to_pylist()
    else:
        assert b"2026-11-27" in text.splitlines()[form == "csv"]
        assert b"[1,2]" in text


def test_an_entry_that_is_damaged_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "entry").mkdir()
    (tmp_path / "entry" / "model.yaml").write_text("name: sentiment\nversion: a\n", encoding="utf-8")
    assert main([str(tmp_path / "entry"), "in.csv", "out.csv"]) == 1
    assert capsys.readouterr().err.startswith(f"the entry in {tmp_path / 'entry'} cannot be loaded: ")


def test_an_output_of_another_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_customers(tmp_path / "in.parquet", 1)
    assert main([SEGMENTATION, str(source), str(tmp_path / "out.tsv")]) == 1
    assert "out.tsv: the name must end with .csv, .jsonl" in capsys.readouterr().err


def test_input_that_failed_before_its_first_part_may_be_mended(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    arguments = [SEGMENTATION, str(tmp_path / "in.csv"), str(tmp_path / "out.csv")]
    assert main(arguments) == 1
    (tmp_path / "in.csv").write_text("x12,x44\n1,2\n1,3\n", encoding="utf-8")
    assert main(arguments) == 0
