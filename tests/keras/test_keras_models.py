"""Keras models of the user's own become ONNX, by the environment that `make tensorflow` installs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.own_models import made
from tests.support.processes import train
from training.image import keras_file

# Layers that behave otherwise in training, and pixels scaled as ResNet-50 has it, with a constant of its own.
SCRIPT = """
import sys
import tensorflow as tf
tf.keras.utils.set_random_seed(0)
layers = tf.keras.layers
pixels = layers.Input((48, 48, 3))
found = layers.Rescaling(1 / 127.5)(tf.keras.applications.resnet50.preprocess_input(pixels))
found = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Conv2D(16, 5, 2, "same", activation="relu")(found)))
found = layers.GlobalAveragePooling2D()(found)
head = layers.Dense(4, activation="softmax", kernel_initializer=tf.keras.initializers.RandomNormal(stddev=4))(found)
model = tf.keras.Model(pixels, head)
model.save(f"{sys.argv[1]}/model.keras")
model.export(f"{sys.argv[1]}/saved")
tf.keras.Model(pixels, [head, head]).save(f"{sys.argv[1]}/two.keras")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small Keras model of random weights, the same as SavedModel, and one of two outputs."""
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([str(keras_file.PYTHON), "-c", SCRIPT, str(folder)], capture_output=True, timeout=120, check=True)
    (folder / "labels.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["model.keras", "saved"])
def test_a_model_gives_what_keras_predicts(folder: Path, tmp_path: Path, name: str) -> None:
    found = made(tmp_path, "image", "--from-keras", str(folder / name), "--labels", str(folder / "labels.txt"))
    assert (found["labels"], found["framework"]) == (["a", "b", "c", "d"], "tensorflow keras")
    assert found["origin"] == {"from": str(folder / name)}
    assert found["parity"]["inputs"] >= 500
    assert found["parity"]["different_labels"] == 0
    assert found["parity"]["largest_difference"] < 1e-4


def test_a_model_of_two_outputs_is_refused(folder: Path, tmp_path: Path) -> None:
    options = ["--from-keras", str(folder / "two.keras"), "--labels", str(folder / "labels.txt")]
    done = train(tmp_path, "image", *options)
    assert done.returncode == 1
    assert "two.keras is no usable Keras model: it has 1 inputs and 2 outputs" in done.stderr
