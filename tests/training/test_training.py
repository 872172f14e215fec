"""Models are made end to end, on small samples, into stores of the tests' own."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

import training.image
import training.image.fit
import training.sentiment
import training.sentiment.fit
from models.model import check
from models.segmentation.columns import INPUTS, VARIABLES, features
from serving.bento.shipped import FOLDER, read_info
from tests.support import ROOT
from tests.support.processes import train
from tests.support.progress import ignore
from tests.support.stores import newest
from training import bench, fitting, segmentation
from training.artifact import TrainingError, check_labels, check_probabilities, open_graph
from training.sentiment.fit import AdapterRecipe


def test_a_second_run_makes_nothing(store: Path) -> None:
    before = {path: path.read_text(encoding="utf-8") for path in store.glob("models/*/latest")}
    done = train(store)
    assert done.returncode == 0, done.stderr
    assert {path: path.read_text(encoding="utf-8") for path in store.glob("models/*/latest")} == before
    assert done.stdout.count("kept") == 4


@pytest.mark.parametrize("name", ["breast_cancer", "segmentation"])
def test_force_makes_a_model_again_with_the_same_metrics(store: Path, tmp_path: Path, name: str) -> None:
    done = train(tmp_path, name)
    assert done.returncode == 0, done.stdout + done.stderr
    first = newest(tmp_path, name)
    assert train(tmp_path, name, "--force").returncode == 0
    second = newest(tmp_path, name)
    assert first != second
    assert metrics(first) == pytest.approx(metrics(second), abs=1e-3)
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", read_info(second)["metadata"]["git_commit"])
    assert metrics(first) == pytest.approx(metrics(newest(store, name)), abs=1e-3)


def metrics(folder: Path) -> dict[str, float]:
    """Return the metrics in an entry's metadata."""
    found: dict[str, float] = read_info(folder)["metadata"]["metrics"]
    return found


def test_an_unknown_model_is_an_error(tmp_path: Path) -> None:
    done = train(tmp_path, "nonsense")
    assert done.returncode == 2
    assert "no model 'nonsense'" in done.stderr


def test_fit_without_data_is_an_error(tmp_path: Path) -> None:
    done = train(tmp_path, "--fit")
    assert done.returncode == 2
    assert "--fit needs --data" in done.stderr


def test_missing_data_fails_with_its_path_and_saves_nothing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = train(tmp_path, "image", "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "image data is missing" in done.stderr
    assert not (tmp_path / "models" / "image").exists()


def test_weights_are_small_enough_to_be_cloned() -> None:
    for weights in (training.sentiment.WEIGHTS, training.image.WEIGHTS):
        assert sum(path.stat().st_size for path in weights.glob("*.safetensors")) <= 4_000_000
        assert (weights / "log.csv").exists()


def test_evaluate_measures_what_is_in_the_store(store: Path) -> None:
    done = train(store, "evaluate", "breast_cancer", "sentiment")
    assert done.returncode == 0, done.stderr
    for name, metric in (("breast_cancer", "auc"), ("sentiment", "irony_accuracy")):
        assert f"{metrics(newest(store, name))[metric]:.4f}" in done.stdout
    assert (ROOT / "reports" / "breast_cancer" / "roc.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_measures_what_is_shipped_where_the_store_has_nothing(tmp_path: Path) -> None:
    done = train(tmp_path, "evaluate", "segmentation")
    assert done.returncode == 0, done.stderr
    assert f"segmentation:{read_info(FOLDER / 'segmentation')['version']} evaluated" in done.stdout


def test_evaluate_without_data_is_an_error(store: Path) -> None:
    done = train(store, "evaluate", "image")
    assert done.returncode == 1
    assert "without --data" in done.stderr


def test_evaluate_tells_when_a_model_is_worse_than_its_card(store: Path, tmp_path: Path) -> None:
    (tmp_path / "dev.tsv").write_text("a delight\t0\ndreadful\t1\n")
    done = train(store, "evaluate", "sentiment", "--data", str(tmp_path))
    assert done.returncode == 1
    assert "accuracy 0.0000 is outside" in done.stderr


def test_segmentation_is_fitted_on_text_and_missing_values() -> None:
    columns, classes = segmentation.draw(2_000, seed=1)
    assert len(columns) == 100
    assert all(isinstance(value, str) and value.startswith("$") for value in columns["x12"] if value is not None)
    assert all(isinstance(value, str) and value.endswith("%") for value in columns["x63"] if value is not None)
    missing = np.mean([value is None for name in VARIABLES if "_" not in name for value in columns[name]])
    assert missing == pytest.approx(0.05, abs=0.01)
    assert set(classes.tolist()) == {0, 1}


def test_segmentation_of_a_small_sample_is_made_and_compared() -> None:
    artifact = segmentation.train(None, ignore, rows=3_000)
    columns, _ = segmentation.draw(10, seed=5)
    probability = open_graph(artifact.graph)({"features": features(check(columns, INPUTS))})
    assert probability.shape == (10, 2)
    assert ((probability > 0) & (probability < 1)).all()


def test_coefficients_far_from_the_published_ones_are_an_error() -> None:
    published = {name: figure["coef"] for name, figure in segmentation.FIGURES["coefficients"].items()}
    assert segmentation.check_coefficients(published) == 0
    with pytest.raises(TrainingError, match="x91"):
        segmentation.check_coefficients(published | {"x91": published["x91"] + 0.06})


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run torch on one thread: small fits need no more, and threads wait for each other where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SMALL = [replace(recipe, epochs=1) for recipe in training.image.fit.RECIPES]


def draw_images(data: Path) -> None:
    """Write 30 small training images of each label."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(training.image.LABELS):
        folder = data / "cifar10" / "train" / name
        folder.mkdir(parents=True)
        for i in range(30):
            pixels = np.clip(rng.normal(25 * label, 10, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.jpg")


@pytest.mark.usefixtures("one_thread")
def test_image_is_fitted_on_a_small_sample(tmp_path: Path) -> None:
    draw_images(tmp_path)
    weights = tmp_path / "weights"
    training.image.fit.fit(tmp_path, ignore, weights, SMALL, held_out=40)
    assert {path.name for path in weights.iterdir()} == {"model.safetensors", "ranges.json", "fit.json", "log.csv"}
    assert len((weights / "log.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert json.loads((weights / "fit.json").read_text(encoding="utf-8"))["rows"] == 260
    logits = training.image.load(weights)(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 10)


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_fit_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    draw_images(tmp_path)
    training.image.fit.fit(tmp_path, ignore, tmp_path / "whole", SMALL, held_out=40)

    def interrupt(step: str, done: float) -> None:
        if done > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.image.fit.fit(tmp_path, interrupt, tmp_path / "halves", SMALL, held_out=40)
    seen: list[str] = []
    training.image.fit.fit(tmp_path, lambda step, done: seen.append(step), tmp_path / "halves", SMALL, held_out=40)
    assert seen[0] == "epoch 2 of 3"
    whole, halves = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)
    assert {path.name for path in tmp_path.iterdir()} == {"cifar10", "whole", "halves"}


def epochs(accuracies: list[float], checkpoint: Path, patience: int) -> tuple[list[fitting.Epoch], torch.nn.Parameter]:
    """Run epochs with these validation accuracies; the parameter is each epoch's number."""
    parameter = torch.nn.Parameter(torch.zeros(()))

    def epoch(number: int) -> tuple[float, float]:
        torch.nn.init.constant_(parameter, number)
        return 0.0, accuracies[number]

    log = fitting.run_epochs(
        epoch,
        epochs=len(accuracies),
        patience=patience,
        model=torch.nn.ParameterList([parameter]),
        others={},
        generator=torch.Generator(),
        checkpoint=checkpoint,
        inputs="",
    )
    return log, parameter


def test_fitting_ends_when_validation_no_longer_improves_and_keeps_the_best(tmp_path: Path) -> None:
    log, parameter = epochs([0.5, 0.7, 0.6, 0.7, 0.9], tmp_path / "a", patience=2)
    assert [epoch.accuracy for epoch in log] == [0.5, 0.7, 0.6, 0.7]
    assert parameter == 1


def test_the_learning_rate_rises_stays_and_falls() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=2.0)
    schedule = fitting.schedule(optimizer, 100, warm_up=0.1, decay=0.5)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:51] == [2.0] * 42
    assert rates[75] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.04)


@pytest.mark.usefixtures("one_thread")
def test_sentiment_is_fitted_on_a_small_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.sentiment.fit, "BATCH", 16)
    (tmp_path / "sst2").mkdir()
    lines = [f"quite a {word} film number {i}\t{label}" for i in range(60) for word, label in (("good", 1), ("bad", 0))]
    for file in ("train.tsv", "train_phrases.tsv", "dev.tsv"):
        (tmp_path / "sst2" / file).write_text("\n".join(lines) + "\n")
    weights = tmp_path / "weights"
    recipes = (AdapterRecipe(1, 1e-3, first_token=True), AdapterRecipe(3, 1.5e-3), AdapterRecipe(2, 6e-4))
    training.sentiment.fit.fit(tmp_path, ignore, weights, recipes, held_out=20)
    assert len((weights / "log.csv").read_text(encoding="utf-8").splitlines()) == 7
    assert {path.name for path in weights.iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "fit.json",
        "log.csv",
    }
    model = training.sentiment.assemble(weights)
    rows = training.sentiment.tokenizer()([line.partition("\t")[0] for line in lines])["input_ids"]
    logits = training.sentiment.fit.logits_of(model, rows, torch.device("cpu"))
    accuracy = (logits.argmax(1) == torch.tensor([1, 0] * 60)).float().mean()
    assert accuracy > 0.9


def test_no_phrase_of_a_held_out_sentence_is_fitted_on(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a good film\t1\na bad film\t0\n")
    (tmp_path / "train_phrases.tsv").write_text("good\t1\nbad\t0\na good film\t1\na bad film\t0\nfilm\t1\n")
    phrases, held = training.sentiment.fit.split(tmp_path, torch.Generator().manual_seed(0), held_out=1)
    (sentence,) = (text for text, _ in held)
    assert all(f" {text} " not in f" {sentence} " for text, _ in phrases)
    assert len(phrases) == 2


def test_the_archive_and_the_folder_of_images_are_read_alike(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        folder = tmp_path / "cifar10" / "test" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (32, 32), "red" if name == "cat" else "blue").save(folder / "0001.jpg")
    folder_files, folder_labels = training.image.read_images(tmp_path, "test")
    packed = tmp_path / "packed" / "cifar10"
    packed.mkdir(parents=True)
    with tarfile.open(packed / "cifar10.tar.xz", "w:xz") as tar:
        tar.add(tmp_path / "cifar10" / "test", "test")
    files, labels = training.image.read_images(tmp_path / "packed", "test")
    assert files == folder_files
    assert labels == folder_labels == ["cat", "dog"]


def test_other_labels_are_an_error() -> None:
    labels = np.zeros(500)
    assert check_labels(labels, labels) == {"inputs": 500, "different_labels": 0}
    with pytest.raises(TrainingError, match="1 of 500"):
        check_labels(labels, np.eye(1, 500)[0])
    with pytest.raises(TrainingError, match="too few"):
        check_labels(labels[:499], labels[:499])


def test_other_probabilities_are_an_error() -> None:
    probabilities = np.full((500, 2), 0.5)
    assert check_probabilities(probabilities, probabilities + 9e-5)["largest_difference"] == pytest.approx(9e-5)
    with pytest.raises(TrainingError, match="differ"):
        check_probabilities(probabilities, probabilities + 2e-4)
    with pytest.raises(TrainingError, match="differ"):
        check_probabilities(probabilities, probabilities * np.nan)


def test_bench_prints_ratios_for_both_graphs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, value in (("BATCHES", (1, 8)), ("THREADS", (1,)), ("ROUNDS", 1)):
        monkeypatch.setattr(bench, setting, value)
    network, texts, shipped = training.sentiment.bench()
    Console(width=100).print(bench.measure(network, texts[:4], shipped))
    printed = capsys.readouterr().out
    assert "int8 (shipped)" in printed
    assert len(re.findall(r"│ 1 +│ [18] +│ \d+ +│ [\d.]+ +│ [\d.]+ +│", printed)) == 2
