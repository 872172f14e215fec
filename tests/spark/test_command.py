"""The command line on Spark: formats, pictures, output that is there, bad rows, what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
import pytest
from pyspark.sql import SparkSession

from scoring.spark_command import answer, parser
from tests.spark.tables import check_equal, drawn, scored

Command = Callable[..., int]
TEXTS = ['a delight, \nsaid "she"', "  dull ", "", "N/A"]


@pytest.fixture
def command(spark: SparkSession) -> Command:
    """Return a function that runs the command line on the tests' session; it returns the exit status."""

    def run(*arguments: str | Path) -> int:
        return answer(spark, parser().parse_args(list(map(str, arguments))))

    return run


def test_parquet_is_read_and_written(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = drawn("segmentation").slice(0, 1_000)
    pa.parquet.write_table(table, tmp_path / "in.parquet")
    options = ("--model", "segmentation:latest", "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert command(*options) == 0
    expected = scored(table, "segmentation")
    bad = 1_000 - expected.column("error").null_count
    assert capsys.readouterr().out == f"1,000 rows, {bad} bad\n"
    check_equal(pa.parquet.read_table(tmp_path / "out"), expected)
    assert command(*options) == 1
    assert "already exists" in capsys.readouterr().err
    assert command(*options, "--overwrite", "--prefix", "found_") == 0
    assert "found_error" in pa.parquet.read_schema(next((tmp_path / "out").glob("*.parquet"))).names


def test_csv_has_its_cells_as_they_stand_and_lists_as_json(command: Command, tmp_path: Path) -> None:
    table = pa.table({"id": list("abcd"), "text": TEXTS})
    pa.csv.write_csv(table, tmp_path / "in.csv")
    assert command("--model", "sentiment", "--input", tmp_path / "in.csv", "--output", tmp_path / "out") == 0
    (part,) = (tmp_path / "out").glob("part-*.csv")
    options = pa.csv.ConvertOptions(column_types={"text": pa.string()}, strings_can_be_null=True, null_values=[""])
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    found = pa.csv.read_csv(part, parse_options=parsing, convert_options=options)
    expected = scored(table, "sentiment")
    assert [text or "" for text in found.column("text").to_pylist()] == TEXTS
    assert found.column("error").to_pylist() == expected.column("error").to_pylist()
    lists = [text and json.loads(text) for text in found.column("probabilities").to_pylist()]
    assert lists == [each and pytest.approx(each, abs=1e-6) for each in expected.column("probabilities").to_pylist()]


def test_json_lines_have_every_column_in_every_row(command: Command, tmp_path: Path) -> None:
    rows = [{"x12": "$5", "about": {"a": [1]}}, {"x12": "five", "x44": 2.5}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert command("--model", "segmentation", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out") == 0
    (part,) = (tmp_path / "out").glob("part-*.json")
    first, second = map(json.loads, part.read_text(encoding="utf-8").splitlines())
    assert first.keys() == second.keys() >= {"about", "x12", "x44", "class_probability", "model_version", "error"}
    assert (first["about"], first["error"], second["about"], second["class_probability"]) == (
        {"a": [1]},
        None,
        None,
        None,
    )
    assert second["error"].startswith("x12: Input should be a number or an amount")


def test_pictures_are_read_as_files(command: Command, tmp_path: Path) -> None:
    table = drawn("image")
    table = table.filter(pc.greater(pc.binary_length(table.column("image")), 0))  # Spark skips empty files
    files = table.column("image").to_pylist()
    (tmp_path / "in" / "more").mkdir(parents=True)
    for number, file in enumerate(files):
        (tmp_path / "in" / ("more" if number % 2 else ".") / f"{number:02}.jpg").write_bytes(file)
    options = ("--input-format", "pictures", "--output-format", "parquet")
    assert command("--model", "image", "--input", tmp_path / "in", "--output", tmp_path / "out", *options) == 0
    found = pa.parquet.read_table(tmp_path / "out")
    assert found.schema.names[:4] == ["path", "modificationTime", "length", "label"]
    by_name = {Path(row["path"]).stem: row for row in found.to_pylist()}
    expected = scored(table, "image").to_pylist()
    assert [by_name[f"{number:02}"]["label"] for number in range(len(files))] == [row["label"] for row in expected]
    assert [by_name[f"{number:02}"]["error"] for number in range(len(files))] == [row["error"] for row in expected]


def test_strict_writes_nothing_where_a_row_is_bad(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("x12\n$5\n$6\nseven\neight\n", encoding="utf-8")
    options = ("--model", "segmentation", "--input", tmp_path / "in.csv", "--output", tmp_path / "out", "--strict")
    assert command(*options) == 1
    assert capsys.readouterr().err.startswith("partition 0, row 2: x12: Input should be a number or an amount")
    assert not list(tmp_path.glob("out/part-*"))


@pytest.mark.parametrize(
    ("model", "source", "told"),
    [
        ("absent", "in.csv", "no model 'absent'"),
        ("segmentation:0", "in.csv", "has a model 'segmentation:0'"),
        ("segmentation", "absent.csv", "Path does not exist"),
        ("sentiment", "in.csv", "the input has no column text"),
        ("segmentation", "short.csv", "short.csv: Malformed CSV record"),
        ("segmentation", "broken.jsonl", "Malformed records"),
    ],
)
def test_what_cannot_be_scored_gets_one_line(
    model: str, source: str, told: str, command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("x12\n$5\n", encoding="utf-8")
    (tmp_path / "short.csv").write_text("x12,x44\n$5\n", encoding="utf-8")
    (tmp_path / "broken.jsonl").write_text('{"x12": 1}\n{"x12": \n', encoding="utf-8")
    assert command("--model", model, "--input", tmp_path / source, "--output", tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
