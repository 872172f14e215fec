"""The digest of a model's sources: it changes with what its numbers depend on, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import ROOT
from training import sources


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the sources of models to a folder in which files can be changed, and have `sources` use it."""
    for folder in ("models", "training", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("shipped", "__pycache__"))
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    """Replace a part of a file; fail if the file lacks it."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/segmentation/__init__.py", '"""Segmentation: ', '"""The segmentation: '),
        ("training/segmentation/__init__.py", "# Shares of", "# The shares of"),
        ("training/segmentation/__init__.py", 'summary="', 'summary="In short: '),
        ("training/evaluation.py", "def ", "\n\ndef "),
        ("training/store.py", "def save(", "def keep("),
        ("requirements/serving.txt", "redis==", "redis==1"),
        ("requirements/training.txt", "torch==", "torch==1"),
    ],
)
def test_it_stays_where_no_number_changes(checkout: Path, file: str, old: str, new: str) -> None:
    before = sources.inputs_digest("segmentation", None)
    edit(checkout / file, old, new)
    assert sources.inputs_digest("segmentation", None) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("training/segmentation/__init__.py", "MISSING = 0.05", "MISSING = 0.06"),
        ("training/export.py", "target_opset=18", "target_opset=19"),
        ("training/segmentation/glm26.json", "coef", "coefficient"),
        ("models/segmentation/columns.py", "THRESHOLD = 0.75", "THRESHOLD = 0.5"),
        ("requirements/training.txt", "scikit-learn==", "scikit-learn==1"),
        ("requirements/serving.txt", "numpy==", "numpy==1"),
    ],
)
def test_it_changes_where_a_number_may_change(checkout: Path, file: str, old: str, new: str) -> None:
    before = sources.inputs_digest("segmentation", None)
    edit(checkout / file, old, new)
    assert sources.inputs_digest("segmentation", None) != before


def test_it_changes_with_the_weights(checkout: Path) -> None:
    before = sources.inputs_digest("image", None)
    with (checkout / "training" / "image" / "weights" / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert sources.inputs_digest("image", None) != before


def test_it_changes_with_the_data_but_not_between_runs(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = sources.inputs_digest("image", tmp_path)
    assert first == sources.inputs_digest("image", tmp_path)
    assert first != sources.inputs_digest("image", None)
    (tmp_path / "b").write_text("2")
    assert first != sources.inputs_digest("image", tmp_path)
    assert sources.inputs_digest("image", None) != sources.inputs_digest("sentiment", None)
