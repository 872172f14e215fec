"""The functions of a trainer are found, and missing ones are named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import models
import training
from training import sources, trainer
from training.artifact import TrainingError

COMPLETE = "def train(data, report): ...\ndef evaluate(served, data): ...\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that writes a trainer's file into a folder that is searched for trainers, too."""
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    monkeypatch.setattr(training, "__path__", [*training.__path__, str(tmp_path / "training")])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())

    def write(file: str, code: str) -> None:
        path = tmp_path / "training" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, encoding="utf-8")

    return write


@pytest.mark.parametrize("name", models.names())
def test_every_model_is_made_and_compared(name: str) -> None:
    assert trainer.find(name).samples is not None


@pytest.mark.parametrize("name", ["image", "sentiment"])
def test_a_network_is_measured_and_fitted_and_makes_way_for_the_users_own(name: str) -> None:
    found = trainer.find(name)
    assert found.bench is not None
    assert found.weights is not None
    assert found.weights.is_dir()
    assert callable(trainer.find_fit(name))
    assert (trainer.find_own(name).train_from_onnx is not None) == (name == "image")


@pytest.mark.parametrize("file", ["violets.py", "violets/__init__.py"])
def test_a_file_is_as_good_as_a_folder(written: Callable[[str, str], None], file: str) -> None:
    written(file, COMPLETE)
    found = trainer.find("violets")
    assert (found.samples, found.bench, found.weights) == (None, None, None)


def test_a_missing_function_is_named(written: Callable[[str, str], None]) -> None:
    written("pansies.py", "def train(data, report): ...\n")
    with pytest.raises(TrainingError, match=r"^training/pansies has no evaluate\(\)$"):
        trainer.find("pansies")


def test_a_missing_trainer_is_named() -> None:
    with pytest.raises(TrainingError, match=r"^what makes roses is missing: .*roses\.py$"):
        trainer.find("roses")


@pytest.mark.parametrize("file", ["violets.py", "violets/__init__.py"])
@pytest.mark.parametrize("part", ["fit", "own"])
def test_a_missing_part_is_named(written: Callable[[str, str], None], file: str, part: str) -> None:
    written(file, COMPLETE)
    find = {"fit": trainer.find_fit, "own": trainer.find_own}[part]
    with pytest.raises(TrainingError, match=rf"^training/violets/{part}\.py is missing: violets cannot do that$"):
        find("violets")
