"""The models shipped in `models/shipped`: their files, metadata and model cards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import models
from models.breast_cancer import EXAMPLE, FEATURES
from serving.bento.shipped import FOLDER, content_version, read_info
from training import sources
from training.served import Served


def metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of an entry."""
    found: dict[str, Any] = read_info(folder)["metadata"]
    return found


def metrics(folder: Path) -> dict[str, float]:
    """Return the metrics in the metadata of an entry."""
    found: dict[str, float] = metadata(folder)["metrics"]
    return found


def test_every_model_is_shipped() -> None:
    assert sorted(folder.name for folder in FOLDER.iterdir()) == models.names()


def test_none_is_a_pickle() -> None:
    assert {path.suffix for path in FOLDER.glob("*/*")} == {".onnx", ".json", ".yaml"}


@pytest.mark.parametrize("name", models.names())
def test_its_version_follows_from_what_is_in_it(name: str) -> None:
    files = {path.name: path.read_bytes() for path in (FOLDER / name).iterdir() if path.name != "model.yaml"}
    assert content_version(files, metadata(FOLDER / name)) == read_info(FOLDER / name)["version"]


@pytest.mark.parametrize("name", models.names())
def test_it_was_made_from_these_sources(name: str) -> None:
    current = sources.inputs_digest(name, None)
    assert metadata(FOLDER / name)["inputs_digest"] == current, f"{name} is outdated: make ship"


@pytest.mark.parametrize("name", ["breast_cancer", "image", "segmentation", "sentiment"])
def test_metadata_tells_how_a_model_was_made(name: str) -> None:
    found = metadata(FOLDER / name)
    assert found["metrics"]
    assert found["parity"]["inputs"] >= 500
    assert found["parity"]["different_labels"] == 0
    assert found["parity"].get("largest_difference", 0) <= 1e-4
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", found["training_data"]["digest"])
    assert found["training_data"]["rows"] > 500
    assert found["libraries"]["onnxruntime"]


@pytest.mark.parametrize("name", ["breast_cancer", "image", "segmentation", "sentiment"])
def test_a_card_tells_what_a_model_is_and_how_good(name: str) -> None:
    found = metadata(FOLDER / name)
    card = found["card"]
    assert all(card[part] for part in ("summary", "data", "licence", "procedure", "limits"))
    assert "accuracy" in card["metrics"]
    for metric, estimate in card["metrics"].items():
        assert estimate["low"] <= estimate["value"] <= estimate["high"], metric
        assert estimate["value"] == found["metrics"][metric]
        assert estimate["examples"] > 0


def test_the_learned_models_are_good_enough_to_be_used() -> None:
    sentiment, image = metrics(FOLDER / "sentiment"), metrics(FOLDER / "image")
    assert sentiment["accuracy"] >= 0.9
    assert sentiment["calibration_error"] <= 0.04
    assert image["accuracy"] >= 0.92
    assert image["calibration_error"] <= 0.04


def test_hard_sentences_are_counted_by_kind() -> None:
    estimates = metadata(FOLDER / "sentiment")["card"]["metrics"]
    kinds = [estimates[f"{kind}_accuracy"]["examples"] for kind in ("negation", "contrast", "irony")]
    assert estimates["hard_sentences_accuracy"]["examples"] == sum(kinds) >= 33


def test_int8_scores_of_our_classifier_do_not_depend_on_the_batch() -> None:
    served = Served("sentiment", FOLDER / "sentiment")
    texts = ["dull", "not bad at all", "a film so loud, so long and so very pleased with itself that one leaves early"]
    alone = np.concatenate([served.outputs([text]) for text in texts])
    assert served.outputs(texts) == pytest.approx(alone, abs=1e-5)


def test_segmentation_agrees_with_its_published_figures() -> None:
    found = metadata(FOLDER / "segmentation")
    assert found["metrics"]["auc"] == pytest.approx(0.80, abs=0.01)
    assert found["parity"]["largest_coefficient_z"] <= 4


def test_breast_cancer_is_good_enough_and_right_about_the_example() -> None:
    folder = FOLDER / "breast_cancer"
    assert metrics(folder)["accuracy"] >= 0.93
    graph = onnxruntime.InferenceSession(folder / "model.onnx")
    row = np.array([[EXAMPLE[name] for name in FEATURES]], dtype=np.float32)
    assert graph.run(None, {"features": row})[0].tolist() == [1]
