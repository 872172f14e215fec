"""Shipped models are put into a store that lacks them, and never replace the user's own as the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.bento.shipped import FOLDER, read_info
from tests.support.processes import run_python
from tests.support.stores import entry, exit_codes, newest, put, putting


def versions(home: Path) -> set[str]:
    """Return the versions of breast_cancer in the store of a home."""
    return {path.name for path in (home / "models" / "breast_cancer").iterdir() if path.is_dir()}


def test_they_are_stored_whole_under_their_own_tags(tmp_path: Path) -> None:
    put(tmp_path, "breast_cancer", "segmentation")
    for name in ("breast_cancer", "segmentation"):
        stored = newest(tmp_path, name)
        assert stored.name == read_info(FOLDER / name)["version"]
        assert {path.name: path.read_bytes() for path in stored.iterdir()} == {
            path.name: path.read_bytes() for path in (FOLDER / name).iterdir()
        }
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"breast_cancer", "segmentation"}


def test_what_is_stored_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "breast_cancer")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    put(tmp_path, "breast_cancer")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_model_that_is_not_shipped_is_none_of_its_business(tmp_path: Path) -> None:
    put(tmp_path, "nonsense")
    assert list(tmp_path.iterdir()) == []


def test_a_newer_one_replaces_an_older_one_of_ours(tmp_path: Path) -> None:
    old = entry(tmp_path / "old", "old", "2026-01-01T00:00:00+00:00")
    put(tmp_path, "breast_cancer", folders=[old, FOLDER])
    assert newest(tmp_path, "breast_cancer").name == read_info(FOLDER / "breast_cancer")["version"]
    assert len(versions(tmp_path)) == 2


def test_an_older_one_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    old = entry(tmp_path / "old", "old", "2026-01-01T00:00:00+00:00")
    put(tmp_path, "breast_cancer", folders=[FOLDER, old])
    assert newest(tmp_path, "breast_cancer").name == read_info(FOLDER / "breast_cancer")["version"]


@pytest.mark.parametrize("created", ["2026-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00"])
def test_none_comes_before_the_users_own(tmp_path: Path, created: str) -> None:
    own = entry(tmp_path / "own", "own", created, origin="elsewhere")
    put(tmp_path, "breast_cancer", folders=[own, FOLDER])
    assert newest(tmp_path, "breast_cancer").name == "own"
    assert len(versions(tmp_path)) == 2
    put(tmp_path, "breast_cancer", folders=[entry(tmp_path / "new", "new", "2099-06-01T00:00:00+00:00")])
    assert newest(tmp_path, "breast_cancer").name == "own"


def test_what_was_made_before_is_the_default_once_the_users_own_is_gone(tmp_path: Path) -> None:
    own = entry(tmp_path / "own", "own", "2026-01-01T00:00:00+00:00", "elsewhere")
    put(tmp_path, "breast_cancer", folders=[own, FOLDER])
    done = run_python(tmp_path, "-m", "bentoml", "models", "delete", "--yes", "breast_cancer:own")
    assert done.returncode == 0, done.stderr
    assert newest(tmp_path, "breast_cancer").name == read_info(FOLDER / "breast_cancer")["version"]


@pytest.mark.parametrize("changes", [{"changed_sources": True}, {"inputs_digest": None}], ids=["changed", "by hand"])
def test_none_comes_before_what_was_made_of_changed_sources_or_by_other_means(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    own = entry(tmp_path / "own", "own", "2026-01-01T00:00:00+00:00", **changes)
    put(tmp_path, "breast_cancer", folders=[own, FOLDER])
    assert newest(tmp_path, "breast_cancer").name == "own"


def test_none_comes_before_any_of_several_of_the_users_own(tmp_path: Path) -> None:
    own = [
        entry(tmp_path / month, f"own{month}", f"2026-{month}-01T00:00:00+00:00", origin="elsewhere")
        for month in ("01", "02")
    ]
    put(tmp_path, "breast_cancer", folders=[*own, FOLDER])
    done = run_python(tmp_path, "-m", "bentoml", "models", "delete", "--yes", "breast_cancer:own02")
    assert done.returncode == 0, done.stderr
    assert newest(tmp_path, "breast_cancer").name == "own01"


@pytest.mark.parametrize("left", ["nothing", "an empty model.yaml", "a part of model.yaml", "an empty latest"])
def test_what_an_interrupted_copy_of_another_version_left_is_removed(tmp_path: Path, left: str) -> None:
    put(tmp_path, "breast_cancer")
    folder = tmp_path / "models" / "breast_cancer"
    if left == "an empty latest":
        (folder / "latest").write_text("")
    else:
        (folder / "0123456789ab").mkdir()
        (folder / "latest").write_text("0123456789ab")
    if "model.yaml" in left:
        whole = (FOLDER / "breast_cancer" / "model.yaml").read_text(encoding="utf-8")
        part = whole[: len(whole) // 2] if "part" in left else ""
        (folder / "0123456789ab" / "model.yaml").write_text(part, encoding="utf-8")
    put(tmp_path, "breast_cancer")
    assert newest(tmp_path, "breast_cancer").name == read_info(FOLDER / "breast_cancer")["version"]
    assert versions(tmp_path) == {read_info(FOLDER / "breast_cancer")["version"]}


def test_what_may_be_a_damaged_model_of_the_users_own_is_left(tmp_path: Path) -> None:
    put(tmp_path, "breast_cancer", folders=[entry(tmp_path / "own", "own", "2026-01-01T00:00:00+00:00", "elsewhere")])
    (newest(tmp_path, "breast_cancer") / "model.yaml").write_text("name: breast_cancer\nversi", encoding="utf-8")
    assert exit_codes(putting(tmp_path, "breast_cancer")) == [1]
    assert (tmp_path / "models" / "breast_cancer" / "own" / "model.onnx").is_file()


@pytest.mark.parametrize("missing", ["model.onnx", "model.yaml"])
def test_an_interrupted_copy_is_made_whole(tmp_path: Path, missing: str) -> None:
    put(tmp_path, "breast_cancer")
    (newest(tmp_path, "breast_cancer") / missing).unlink()
    put(tmp_path, "breast_cancer")
    assert (newest(tmp_path, "breast_cancer") / missing).read_bytes() == (
        FOLDER / "breast_cancer" / missing
    ).read_bytes()


def test_two_processes_at_the_same_time_put_it_there_once(tmp_path: Path) -> None:
    assert exit_codes(*(putting(tmp_path, "breast_cancer", "segmentation") for _ in range(2))) == [0, 0]
    assert len(versions(tmp_path)) == 1
