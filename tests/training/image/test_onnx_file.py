"""Users' own ONNX files, made into stores of the tests' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.support.own_models import (
    from_onnx,
    made,
    served_scores,
    write_onnx,
)
from tests.support.processes import train
from training.image import upload


@pytest.mark.parametrize(("softmax", "batch"), [(False, "n"), (True, 1)])
def test_a_ready_onnx_file_is_served_with_its_labels(tmp_path: Path, *, softmax: bool, batch: int | str) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=softmax, batch=batch)
    store = tmp_path / "store"
    found = made(store, *from_onnx(tmp_path, json.dumps({"0": "red", "1": "green", "2": "blue"}), "labels.json"))
    assert found["labels"] == ["red", "green", "blue"]
    assert found["parity"]["inputs"] >= 500
    colours = [upload(Image.new("RGB", (60, 50), colour)) for colour in ("red", "blue")]
    scores = torch.from_numpy(served_scores(store, "image", colours)).softmax(-1).numpy()
    # Red is 1 in its own channel, 0 in the others, normalised as is usual for ImageNet.
    red = 4 * (np.array([1, 0, 0]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert scores[0] == pytest.approx(torch.from_numpy(red).softmax(-1).numpy(), abs=1e-4)
    assert scores.argmax(1).tolist() == [0, 2]


def test_a_graph_that_takes_pixels_as_tensorflow_does_is_served(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch="n", channels_last=True)
    assert made(tmp_path / "store", *from_onnx(tmp_path))["parity"]["inputs"] >= 500
    (logits,) = served_scores(tmp_path / "store", "image", [upload(Image.new("RGB", (60, 50), (255, 0, 51)))])
    assert logits == pytest.approx([4 * 255, 0, 4 * 51], rel=1e-5)


def test_a_processor_beside_an_onnx_file_is_used(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch="n")
    config = {"image_processor_type": "ViTImageProcessor", "size": {"height": 48, "width": 48}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    made(tmp_path / "store", *from_onnx(tmp_path))
    (logits,) = served_scores(tmp_path / "store", "image", [upload(Image.new("RGB", (60, 50), "red"))])
    assert logits == pytest.approx([4, -4, -4], abs=1e-4)


def test_a_graph_that_takes_one_picture_at_a_time_only_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch=1)
    model = onnx.load(tmp_path / "model.onnx")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3], np.int64), "one"))
    model.graph.node[2].CopyFrom(onnx.helper.make_node("Reshape", ["means", "one"], ["flat"]))
    onnx.save(model, tmp_path / "model.onnx")
    done = train(tmp_path / "store", *from_onnx(tmp_path))
    assert done.returncode == 1
    assert "takes no batches" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [("cat\ndog\n", "its labels need (1, 2)"), ("cat\ndog\n\n", "its labels need (1, 2)"), ("", "two or more")],
)
def test_labels_that_do_not_fit_are_an_error(tmp_path: Path, text: str, message: str) -> None:
    write_onnx(tmp_path / "model.onnx", softmax=False, batch="n")
    done = train(tmp_path / "store", *from_onnx(tmp_path, text))
    assert done.returncode == 1
    assert message in done.stderr


def test_a_damaged_onnx_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    done = train(tmp_path / "store", *from_onnx(tmp_path))
    assert done.returncode == 1
    assert "is no usable ONNX file" in done.stderr
    assert "Traceback" not in done.stderr
