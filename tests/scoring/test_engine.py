"""Scoring of record batches: types of columns, bad rows, schemas."""

from __future__ import annotations

import math
import pickle
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pytest
from pydantic import Field

from models.model import Column
from scoring import Entry, EntryError, Scorer, find_entry, score
from scoring.columns import read_column
from scoring.entries import entry_without_bentoml
from serving.bento.shipped import FOLDER
from tests.support.processes import run_python
from tests.support.rows import TUMOUR
from tests.support.stores import entry, put

SEGMENTATION, BREAST_CANCER, SENTIMENT = (str(FOLDER / name) for name in ("segmentation", "breast_cancer", "sentiment"))

FIND = "import sys; from scoring import find_entry; [print(find_entry(name).id) for name in sys.argv[1:]]"


def scored(model: str, columns: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a batch with their output columns."""
    (batch,) = score([pa.record_batch(columns)], model, **options)
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def probability(name: str, array: pa.Array) -> Any:
    """Return the probability of a row whose only known column has the array's only value."""
    (row,) = scored(SEGMENTATION, {"x0": pa.array([1.0]), name: array})
    return row["error"] or row["class_probability"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([0.25], pa.float32()),
        pa.array(["0.25"]),
        pa.array(["0.25"], pa.large_string()),
        pa.array(["0.25"], pa.string_view()),
        pa.array(["0.25"]).dictionary_encode(),
        pa.array([" +2.5e-1"]),
        pa.array([Decimal("0.25")]),
        pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["0.25"])),
        pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(['"0.25"'])),
    ],
    ids=str,
)
def test_a_number_may_come_in_any_type(array: pa.Array) -> None:
    assert probability("x44", array) == probability("x44", pa.array([0.25]))


@pytest.mark.parametrize(
    "array",
    [
        pa.array([None], pa.float64()),
        pa.nulls(1),
        pa.array([math.nan]),
        pa.array([None], pa.string()),
        pa.array(["N/A"]),
        pa.array([" null"]),
        pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["null"])),
    ],
    ids=str,
)
def test_what_is_missing_is_imputed(array: pa.Array) -> None:
    assert probability("x44", array) == probability("x43", pa.array([0.0]))


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("x44", pa.array([math.inf]), "finite"),
        ("x44", pa.array([2**53 + 1]), "a number that FP64 has"),
        ("x44", pa.array([True]), "valid number"),
        ("x44", pa.array(["1_0"]), "without underscores"),
        ("x44", pa.array(["1e999"]), "finite"),
        ("x44", pa.array([[1.0]]), "valid number"),
        ("x44", pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["[1]"])), "valid number"),
        ("x12", pa.array(["5,54.78"]), "an amount such as"),
        ("x5", pa.array([5]), "valid string"),
        ("x5", pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(["5"])), "valid string"),
    ],
    ids=str,
)
def test_what_does_not_fit_makes_the_row_bad(name: str, array: pa.Array, told: str) -> None:
    found = probability(name, array)
    assert found.startswith(f"{name}: Input ")
    assert told in found


def test_numbers_in_a_column_with_a_notation_are_numbers() -> None:
    assert probability("x12", pa.array([5547.78])) == probability("x12", pa.array(["$5,547.78"]))


def test_bad_rows_stand_between_good_ones() -> None:
    columns = {name: pa.array([value, -1.0, value, None]) for name, value in TUMOUR.items()}
    rows = scored(BREAST_CANCER, columns)
    assert [row["label"] for row in rows] == ["M", None, "M", None]
    assert [row["error"] is None for row in rows] == [True, False, True, False]
    assert rows[1]["error"].count("Input should be greater than or equal to 0") == len(TUMOUR)


def test_a_batch_may_be_a_slice_or_empty_or_all_bad() -> None:
    batch = pa.record_batch({"text": pa.array(["", "a delight", None, "dull"])})
    parts = list(score([batch.slice(1, 2), batch.slice(0, 0), batch.slice(0, 1)], SENTIMENT))
    assert [part.column("label").to_pylist() for part in parts] == [["POSITIVE", None], [], [None]]
    assert len({part.schema for part in parts}) == 1


def test_the_schema_is_known_before_the_first_batch() -> None:
    given = pa.schema({"text": pa.string(), "id": pa.int32()})
    schema = Scorer(find_entry(SENTIMENT)).schema(given)
    (batch,) = score([pa.record_batch([pa.array(["dull"]), pa.array([7], pa.int32())], schema=given)], SENTIMENT)
    assert batch.schema == schema
    assert schema.names == ["text", "id", "label", "score", "probabilities", "model_version", "error"]


def test_names_may_be_in_capitals() -> None:
    (row,) = scored(SEGMENTATION, {"X44 ": pa.array([0.25])})
    assert row["class_probability"] == probability("x44", pa.array([0.25]))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["words"], "no column text"),
        (["text", "TEXT"], "two columns are named text"),
        (["text", "label"], "a column label"),
    ],
)
def test_columns_that_cannot_be_scored_are_refused(names: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        scored(SENTIMENT, {name: pa.array(["dull"]) for name in names})


def test_a_prefix_keeps_names_apart() -> None:
    (row,) = scored(SENTIMENT, {"text": pa.array(["dull"]), "label": pa.array(["?"])}, prefix="found_")
    assert (row["label"], row["found_label"]) == ("?", "NEGATIVE")


def test_the_function_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(partial(score, model=SENTIMENT)))
    (batch,) = sent([pa.record_batch({"text": pa.array(["dull"])})])
    assert batch.column("error").null_count == 1


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(EntryError, match="no model 'absent'"):
        find_entry("absent")


def test_an_entry_has_its_version() -> None:
    assert isinstance(find_entry(SENTIMENT), Entry)
    assert find_entry(SENTIMENT).id.name == "sentiment"


@pytest.mark.parametrize("created", ["2026-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"])
@pytest.mark.parametrize("origin", [None, "elsewhere"], ids=["ours", "own"])
def test_without_bentoml_a_name_stands_for_the_same_entry(
    origin: str | None, created: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    put(tmp_path, "breast_cancer", folders=[entry(tmp_path / "made", "made", created, origin)])
    found = [entry_without_bentoml(name) for name in ("breast_cancer", "breast_cancer:latest", "breast_cancer:made")]
    with_bentoml = run_python(tmp_path, "-c", FIND, "breast_cancer", "breast_cancer:latest").stdout.splitlines()
    assert [str(each.id) for each in found] == [*with_bentoml, "breast_cancer:made"]
    with pytest.raises(EntryError, match="has a model 'breast_cancer:absent'"):
        entry_without_bentoml("breast_cancer:absent")


def test_lists_are_read_as_rows_of_one_length() -> None:
    column = Column("point", list[Annotated[float, Field(ge=0)]])
    found = read_column(column, pa.array([[1.0, 2.0], [3.0], None, [4.0, -5.0], [6.0, 7.0]]))
    assert [fault.row for fault in found.faults] == [1, 2, 3]
    assert found.values[[0, 4]].tolist() == [[1.0, 2.0], [6.0, 7.0]]
