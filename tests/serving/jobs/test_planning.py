"""Files are cut into short chunks, whose columns survive as bytes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from loadtest import inputs
from models.image import ImageClassifier
from models.model import Array, Columns, InvalidInputError
from models.segmentation import Segmentation
from models.sentiment import Sentiment
from serving.jobs import planning
from serving.jobs.parts import decoded, encoded
from serving.jobs.planning import CHUNK_BYTES, CHUNK_ROWS, NAMES, bytes_of, cut
from serving.tables.formats import check_start


@pytest.fixture
def stored() -> dict[int, Columns]:
    return {}


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_may_have_as_many_rows_as_a_job(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    count = Sentiment.max_file_items + 1
    duckdb.execute(f"COPY (SELECT 'good' AS text FROM range({count})) TO '{path}' (FORMAT parquet)")
    check_start(path, Sentiment, count)
    with pytest.raises(InvalidInputError, match="more than"):
        check_start(path, Sentiment, count - 1)


def test_a_table_is_cut_into_chunks_of_rows(tmp_path: Path, stored: dict[int, Columns]) -> None:
    path = lines(tmp_path / "rows", [{"x91": number} for number in range(2 * CHUNK_ROWS + 1)])
    counts = cut(path, Segmentation, 100_000, stored.__setitem__)
    assert sum(counts) == 2 * CHUNK_ROWS + 1
    assert max(counts) <= CHUNK_ROWS
    values = np.concatenate([stored[number]["x91"] for number in range(len(counts))])
    assert values.tolist() == list(range(2 * CHUNK_ROWS + 1))


def test_a_chunk_has_as_many_texts_as_a_request(tmp_path: Path, stored: dict[int, Columns]) -> None:
    path = lines(tmp_path / "rows", [{"text": inputs.text(number)} for number in range(700)])
    counts = cut(path, Sentiment, 1_000, stored.__setitem__)
    assert (sum(counts), max(counts)) == (700, Sentiment.max_items)


def test_a_chunk_of_pictures_has_few_bytes_and_their_names(tmp_path: Path, stored: dict[int, Columns]) -> None:
    picture = inputs.pictures()[0].ljust(CHUNK_BYTES // 3, b"\0")
    with zipfile.ZipFile(tmp_path / "pictures", "w") as archive:
        for number in range(7):
            archive.writestr(f"{number}.jpg", picture)
    counts = cut(tmp_path / "pictures", ImageClassifier, 100, stored.__setitem__)
    assert sum(counts) == 7
    names = [name for number in range(len(counts)) for name in stored[number][NAMES]]
    assert names == [f"{number}.jpg" for number in range(7)]
    assert all(bytes_of({"image": columns["image"]}) <= 2 * CHUNK_BYTES for columns in stored.values())


def test_a_file_of_more_rows_than_jobs_may_have_is_refused(tmp_path: Path, stored: dict[int, Columns]) -> None:
    path = lines(tmp_path / "rows", [{"text": "a"}] * 11)
    with pytest.raises(InvalidInputError, match="more than 10 rows"):
        cut(path, Sentiment, 10, stored.__setitem__)


def test_a_job_may_have_more_rows_than_an_upload(tmp_path: Path, stored: dict[int, Columns]) -> None:
    path = lines(tmp_path / "rows", [{"text": "a"}] * (Sentiment.max_file_items + 1))
    assert sum(cut(path, Sentiment, 10**6, stored.__setitem__)) == Sentiment.max_file_items + 1


def test_columns_that_take_too_many_bytes_are_refused(
    tmp_path: Path, stored: dict[int, Columns], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "MAX_BYTES", 1_000)
    path = lines(tmp_path / "rows", [{"text": "a" * 100}] * 11)
    with pytest.raises(InvalidInputError, match="more than 1,000 bytes"):
        cut(path, Sentiment, 100, stored.__setitem__)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.nan, -0.0]),
        np.array([[1, 2], [3, 4]], dtype=np.float32),
        np.array([2**62, -1]),
        np.array([True, False]),
        np.array(["a", "\ud800", "", None, "\U0001f600"], dtype=object),
        np.array([b"", b"\0\xff", None], dtype=object),
        np.array([None, None], dtype=object),
        np.empty((0, 3)),
    ],
    ids=str,
)
def test_columns_survive_as_bytes(values: Array) -> None:
    (found,) = decoded(encoded({"column": values})).values()
    assert found.dtype == values.dtype
    assert found.shape == values.shape
    assert repr(found.tolist()) == repr(values.tolist())
