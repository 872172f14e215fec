"""The format of a result follows the Accept header."""

from __future__ import annotations

import pytest

from serving.jobs.results import of_media_type


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
