"""DuckDB as a reader of one file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from serving.tables.database import connect


def test_duckdb_reads_no_file_but_the_one_that_was_sent(tmp_path: Path) -> None:
    sent, other = tmp_path / "sent [1]*.csv", tmp_path / "other.csv"
    for path in (sent, other):
        path.write_text("x91\n1\n", encoding="utf-8")
    with connect(sent) as connection:
        assert connection.execute("SELECT count(*) FROM read_csv(?)", [str(sent)]).fetchall() == [(1,)]
        for statement in (
            f"SELECT * FROM read_csv('{other.as_posix()}')",
            f"COPY (SELECT 1) TO '{other.as_posix()}'",
            "SET enable_external_access = true",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
