"""Users' own models, small and random, loaded by the real code into stores of the tests' own."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.support.own_models import (
    TEXTS,
    made,
    metadata,
    served_scores,
)
from tests.support.processes import train
from tests.support.servers import serving
from tests.support.stores import entry, newest, put
from training import hub
from training.image import samples, upload
from training.image.processor import load_processor


@pytest.fixture(scope="module")
def own_models(distilbert: Path, resnet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a text classifier and a quantized image classifier, both from folders."""
    store = tmp_path_factory.mktemp("own")
    made(store, "sentiment", "--from-hub", str(distilbert))
    made(store, "image", "--from-hub", str(resnet), "--quantize")
    return store


def test_a_text_classifier_from_a_folder_gives_its_own_scores(distilbert: Path, own_models: Path) -> None:
    found = metadata(own_models, "sentiment")
    assert found["labels"] == ["NEGATIVE", "POSITIVE"]
    assert found["framework"] == "transformers DistilBertForSequenceClassification"
    assert found["origin"] == {"from": str(distilbert)}
    assert found["parity"]["inputs"] >= 500
    assert found["parity"]["different_labels"] == 0
    assert found["metrics"]["hard_sentences_accuracy"] >= 0
    model = transformers.AutoModelForSequenceClassification.from_pretrained(distilbert).eval()
    batch = transformers.AutoTokenizer.from_pretrained(distilbert)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"]).logits.numpy()
    assert served_scores(own_models, "sentiment", TEXTS) == pytest.approx(logits, abs=1e-4)


def test_quantized_scores_do_not_depend_on_the_batch(distilbert: Path, tmp_path: Path) -> None:
    found = made(tmp_path, "sentiment", "--from-hub", str(distilbert), "--quantize")
    assert found["parity"]["quantized_largest_difference"] < 0.1
    graph = onnx.load(newest(tmp_path, "sentiment") / "model.onnx").graph
    assert "MatMulIntegerToFloat" in {node.op_type for node in graph.node}
    (table,) = [weight for weight in graph.initializer if weight.name.endswith("word_embeddings.weight_rows")]
    assert table.data_type == onnx.TensorProto.INT8
    together = served_scores(tmp_path, "sentiment", TEXTS)
    alone = np.concatenate([served_scores(tmp_path, "sentiment", [text]) for text in TEXTS])
    assert together == pytest.approx(alone, abs=1e-5)


def test_a_model_of_ones_own_is_evaluated_on_data(distilbert: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dev.tsv").write_text("a delight\tPOSITIVE\ndull\tNEGATIVE\nlong\t0\n")
    found = made(tmp_path, "sentiment", "--from-hub", str(distilbert), "--data", str(data))
    accuracy = found["card"]["metrics"]["accuracy"]
    assert accuracy["examples"] == 3
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1


def test_an_unknown_label_in_the_data_is_an_error_that_names_its_line(distilbert: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "dev.tsv").write_text("a delight\tPOSITIVE\ndull\tMEH\n")
    done = train(tmp_path, "sentiment", "--from-hub", str(distilbert), "--data", str(data))
    assert done.returncode == 1
    assert "line 2: 'MEH'" in done.stderr
    assert not (tmp_path / "models" / "sentiment").exists()


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_an_image_classifier_from_a_folder_gives_its_own_scores(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    entry = made(tmp_path, "image", "--from-hub", str(folder))
    assert len(set(entry["labels"])) == {"resnet": 1_000, "vit": 3}[name]
    assert entry["parity"]["different_labels"] == 0
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    processor = load_processor(hub.fetch(str(folder), None))
    photo = Image.fromarray(load_sample_images().images[1])
    pictures = [photo, photo.crop((100, 0, 300, 400)), photo.resize((31, 40))]
    with torch.no_grad():
        logits = model(**processor(pictures, return_tensors="pt")).logits.numpy()
    assert served_scores(tmp_path, "image", [upload(picture) for picture in pictures]) == pytest.approx(
        logits, abs=1e-3
    )


def test_the_server_serves_models_of_ones_own_without_a_change(own_models: Path) -> None:
    with serving(own_models, {"TIFFIN_MODELS": "sentiment,image"}) as address:
        answer = httpx.post(f"{address}/sentiment/predict", json={"text": TEXTS}).json()
        found = [score["label"] for scores in answer["predictions"] for score in scores]
        assert sorted(found) == ["NEGATIVE"] * 3 + ["POSITIVE"] * 3
        picture = upload(Image.fromarray(load_sample_images().images[0])).data
        answer = httpx.post(f"{address}/image/predict", files={"image_file": picture}).json()
        assert answer["Label"].startswith("thing ")
        assert len(answer["predictions"]) == 5
        assert len(httpx.get(f"{address}/image/info").json()["labels"]) == 1_000


def assert_is_quantized(store: Path, operator: str) -> None:
    """Assert that the images' model has 8-bit products in the form of this operator."""
    graph = onnx.load(newest(store, "image") / "model.onnx").graph
    assert operator in {node.op_type for node in graph.node}
    assert metadata(store, "image")["parity"]["quantized_largest_difference"] < 0.5


def test_a_convolutional_network_is_quantized_in_its_form(own_models: Path) -> None:
    assert_is_quantized(own_models, "QuantizeLinear")


def test_a_transformer_of_images_is_quantized_in_its_form(vit: Path, tmp_path: Path) -> None:
    made(tmp_path, "image", "--from-hub", str(vit), "--quantize")
    assert_is_quantized(tmp_path, "MatMulIntegerToFloat")


def test_images_are_evaluated_by_the_names_of_their_folders(vit: Path, tmp_path: Path) -> None:
    for name in ("cat", "ship"):
        folder = tmp_path / "data" / "test" / name
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(samples(1)[0].data)
    found = made(tmp_path, "image", "--from-hub", str(vit), "--data", str(tmp_path / "data"))
    assert found["card"]["metrics"]["accuracy"]["examples"] == 2
    (tmp_path / "data" / "test" / "cat").rename(tmp_path / "data" / "test" / "zebra")
    done = train(tmp_path, "image", "--from-hub", str(vit), "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "the model has no label 'zebra'" in done.stderr


def test_a_run_without_options_keeps_a_model_of_ones_own_and_force_replaces_it(tmp_path: Path) -> None:
    own = entry(tmp_path / "own", "own", "2026-01-01T00:00:00+00:00", origin="elsewhere")
    put(tmp_path, "breast_cancer", folders=[own])
    kept = train(tmp_path, "breast_cancer")
    assert "breast_cancer:own kept, your own from elsewhere" in kept.stdout
    assert newest(tmp_path, "breast_cancer").name == "own"
    assert train(tmp_path, "breast_cancer", "--force").returncode == 0
    assert "origin" not in metadata(tmp_path, "breast_cancer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from-hub", "x"], "needs one model"),
        (["image", "--from-onnx", "x"], "needs --labels"),
        (["image", "--from-keras", "x"], "--from-keras needs --labels"),
        (["image", "--from-keras", "x", "--from-onnx", "x"], "do not go together"),
        (["image", "--labels", "x"], "--labels belongs"),
        (["image", "--revision", "x"], "--revision belongs"),
        (["image", "--quantize"], "--quantize belongs"),
        (["image", "--from-hub", "x", "--force"], "do not go together"),
        (["evaluate", "image", "--force"], "evaluate takes only"),
    ],
)
def test_options_that_do_not_belong_together_are_an_error(options: list[str], message: str, tmp_path: Path) -> None:
    done = train(tmp_path, *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_model_that_cannot_be_taken_from_elsewhere_is_an_error(tmp_path: Path) -> None:
    done = train(tmp_path, "segmentation", "--from-hub", "x")
    assert done.returncode == 1
    assert "training/segmentation/own.py is missing" in done.stderr
