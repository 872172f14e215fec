"""Shipped models are written whole, and are what training makes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import yaml
from onnx import numpy_helper

from serving.bento.shipped import FOLDER, content_version, read_info
from tests.support import ROOT
from tests.support.processes import train
from tests.support.progress import ignore
from tests.support.stores import newest
from training import ship
from training.artifact import TrainingError
from training.trainer import find

BREAST_CANCER = find("breast_cancer")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy models/shipped to a folder in which files can be changed, and have `ship` use it."""
    folder = Path(shutil.copytree(FOLDER, tmp_path / "shipped"))
    monkeypatch.setattr(ship, "FOLDER", folder)
    return folder


@pytest.mark.usefixtures("shipped")
def test_what_training_makes_is_what_is_shipped() -> None:
    found = ship.reproduce("breast_cancer", BREAST_CANCER, None, ignore)
    assert "569 outputs within 0" in found.line
    assert found.metrics["accuracy"].value > 0.93
    assert found.deviations == []


def test_other_outputs_are_an_error(shipped: Path) -> None:
    file = shipped / "breast_cancer" / "model.onnx"
    model = onnx.load(file)
    for node in model.graph.node:
        if node.op_type == "Mul":  # the scale of the features
            weight = next(weight for weight in model.graph.initializer if weight.name in node.input)
            weight.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(weight), weight.name))
    onnx.save(model, file)
    with pytest.raises(TrainingError, match=r"outputs of the shipped breast_cancer differ by 1"):
        ship.reproduce("breast_cancer", BREAST_CANCER, None, ignore)


def test_metrics_that_are_not_as_the_card_says_are_named(shipped: Path) -> None:
    file = shipped / "breast_cancer" / "model.yaml"
    info = read_info(file.parent)
    info["metadata"]["card"]["metrics"]["f1"] |= {"low": 0.1, "high": 0.2}
    file.write_text(yaml.safe_dump(info), encoding="utf-8")
    found = ship.reproduce("breast_cancer", BREAST_CANCER, None, ignore)
    assert [line.partition(" ")[0] for line in found.deviations] == ["f1"]


def test_a_model_that_is_not_shipped_or_has_no_samples_is_an_error(shipped: Path) -> None:
    with pytest.raises(TrainingError, match=r"has no samples\(\)"):
        ship.reproduce("breast_cancer", replace(BREAST_CANCER, samples=None), None, ignore)
    shutil.rmtree(shipped / "breast_cancer")
    with pytest.raises(TrainingError, match="python -m training ship breast_cancer"):
        ship.reproduce("breast_cancer", BREAST_CANCER, None, ignore)


def test_a_model_is_shipped_under_the_version_of_its_content_and_once(tmp_path: Path) -> None:
    project, home = tmp_path / "project", tmp_path / "home"
    for name in ("models", "serving", "training", "requirements"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("shipped", "weights"))
    done = train(home, "ship", "breast_cancer", cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / "models" / "shipped" / "breast_cancer"
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.yaml"}
    info = read_info(folder)
    assert info["version"] == content_version(files, info["metadata"])
    assert newest(home, "breast_cancer").name == info["version"]
    assert "git_commit" not in info["metadata"]
    assert "is shipped already" in train(home, "ship", "breast_cancer", cwd=project).stdout
    done = train(home, "evaluate", "segmentation", cwd=project)
    assert done.returncode == 1
    assert "make it with: python -m training segmentation" in done.stderr
