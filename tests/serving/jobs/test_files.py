"""Files of jobs are there whole or not at all, and go with their job."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from serving.jobs.errors import MissingFileError, StoreUnavailableError
from serving.jobs.files import INPUT, ORPHAN_SECONDS, JobFiles

pytestmark = pytest.mark.anyio


@pytest.fixture
def files(tmp_path: Path) -> JobFiles:
    return JobFiles(str(tmp_path / "files"))


async def test_a_file_is_read_as_it_was_written(files: JobFiles, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(b"\0rows" * 1_000)
    await files.put(f"a/{INPUT}", tmp_path / "sent")
    await files.copy(f"a/{INPUT}", f"b/{INPUT}")
    await files.download(f"b/{INPUT}", tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == await files.get(f"a/{INPUT}") == b"\0rows" * 1_000


async def test_the_files_of_a_job_are_deleted_and_others_stay(files: JobFiles, tmp_path: Path) -> None:
    for name in ("a/input", "a/inputs-1/0", "ab/input"):
        await files.put(name, b"1")
    await files.delete("a")
    await files.delete("a")
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == ["ab"]


async def test_old_files_of_no_job_are_found_and_new_ones_are_not(files: JobFiles, tmp_path: Path) -> None:
    for job in ("known", "old", "new"):
        await files.put(f"{job}/{INPUT}", b"1")
    for job in ("known", "old"):
        past = time.time() - ORPHAN_SECONDS - 1
        os.utime(tmp_path / "files" / job / INPUT, (past, past))
    assert await files.orphans({"known"}) == ["old"]


async def test_a_copy_of_an_old_file_is_new(files: JobFiles, tmp_path: Path) -> None:
    await files.put(f"old/{INPUT}", b"rows")
    past = time.time() - ORPHAN_SECONDS - 1
    os.utime(tmp_path / "files" / "old" / INPUT, (past, past))
    await files.copy(f"old/{INPUT}", f"again/{INPUT}")
    assert await files.orphans(set()) == []
    assert await files.size(f"again/{INPUT}") == 4


async def test_a_folder_that_was_just_made_for_a_file_is_no_orphan(tmp_path: Path) -> None:
    files = JobFiles(str(tmp_path))
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir()
    past = time.time() - ORPHAN_SECONDS - 1
    os.utime(tmp_path / "old", (past, past))
    assert await files.orphans(set()) == ["old"]


async def test_what_is_not_there_is_told_apart(files: JobFiles, tmp_path: Path) -> None:
    for missing in (
        files.get("a/input"),
        files.size("a/input"),
        files.copy("a/input", "b/input"),
        files.download("a/input", tmp_path / "got"),
    ):
        with pytest.raises(MissingFileError):
            await missing


async def test_a_folder_that_cannot_be_made_is_a_fault_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailableError):
        await JobFiles(str(tmp_path / "file" / "below")).put("a/input", b"1")
