"""The format of a result follows the Accept header."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from models.segmentation import Segmentation
from serving.jobs.results import of_media_type, parquet_pieces


@pytest.mark.parametrize(
    ("accepted", "format_"),
    [
        ("*/*", "json"),
        ("", "json"),
        ("application/json", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("text/*", "csv"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/*", "json"),
        ("text/html, application/json;q=0.9, */*;q=0.1", "json"),
        ("application/json;q=0.1, text/csv;q=0.5", "csv"),
        ("application/json;q=0", None),
        ("text/csv;q=nan", None),
        ("image/png", None),
        (";;,,q=1", "json"),
    ],
)
def test_the_format_is_what_is_accepted_first(accepted: str, format_: str | None) -> None:
    assert of_media_type(accepted) == format_


def test_a_parquet_result_takes_its_own_bytes_of_the_disk_while_it_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = {"class_probability": np.zeros(10), "predicted_class": np.zeros(10, dtype=np.int64)}
    pieces = parquet_pieces(["0"], lambda _: rows, list(rows), Segmentation.outputs)
    assert next(pieces).startswith(b"PAR1")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["parquet"]
    pieces.close()
    assert not list(tmp_path.iterdir())
