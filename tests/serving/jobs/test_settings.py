"""Where jobs are kept is understood at start, or refused in a line without passwords."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from serving.jobs.database import postgresql_options
from serving.setting_faults import faults
from serving.settings import Settings


def test_there_are_no_jobs_by_default() -> None:
    assert (Settings().job_store, Settings().has_job_worker) == (None, False)


def test_a_folder_holds_the_database_and_the_files_and_the_server_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIFFIN_JOB_STORE", str(tmp_path))
    settings = Settings()
    assert (settings.job_database, settings.job_folder) == (str(tmp_path / "jobs.sqlite"), str(tmp_path / "files"))
    assert settings.has_job_worker
    monkeypatch.setenv("TIFFIN_JOB_WORKER", "false")
    assert not Settings().has_job_worker


def test_a_shared_store_is_left_to_workers_and_needs_a_place_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_JOB_STORE", "postgresql://tiffin:secret@db/jobs")
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert "TIFFIN_JOB_FILES" in faults(raised.value)[0]
    monkeypatch.setenv("TIFFIN_JOB_FILES", "s3://bucket/tiffin")
    settings = Settings()
    assert (settings.job_folder, settings.has_job_worker) == ("s3://bucket/tiffin", False)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://tiffin:secret@db/jobs",
        "postgresql://tiffin:secret@db",
        "postgresql://tiffin:secret@db/jobs?sslmode=whatever",
        "postgresql://tiffin:secret@db/jobs?application_name=x",
        "postgresql://tiffin:secret@db:port/jobs",
        "sqlite:///jobs",
    ],
)
def test_another_address_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TIFFIN_JOB_STORE", url)
    with pytest.raises(ValidationError) as raised:
        Settings()
    (line,) = faults(raised.value)
    assert line.startswith("TIFFIN_JOB_STORE: must be ")
    assert "secret" not in line


@pytest.mark.parametrize("url", ["ftp://host/files", "s3://", "s3:///files"])
def test_another_place_for_files_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    monkeypatch.setenv("TIFFIN_JOB_STORE", str(tmp_path))
    monkeypatch.setenv("TIFFIN_JOB_FILES", url)
    with pytest.raises(ValidationError, match="must be a folder or s3://bucket/prefix"):
        Settings()


def test_addresses_of_postgresql_are_understood() -> None:
    options = postgresql_options("postgresql://me:p%40ss@db.example:5433/jobs?sslmode=verify-full")
    assert {name: options[name] for name in ("host", "port", "user", "password", "database")} == {
        "host": "db.example",
        "port": 5433,
        "user": "me",
        "password": "p@ss",
        "database": "jobs",
    }
    assert options["ssl_context"].check_hostname
    assert not postgresql_options("postgresql://db/jobs?sslmode=require")["ssl_context"].check_hostname
    assert postgresql_options("postgresql:///jobs?host=/run/postgresql")["unix_sock"] == "/run/postgresql/.s.PGSQL.5432"
