"""Pictures are preprocessed as by a model's own image processor, or the error names the step that differs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from models.image import ImageClassifier
from training import hub
from training.artifact import TrainingError
from training.image import upload
from training.image.processor import check_preprocessing, load_processor, processor_settings


def loaded(folder: Path) -> Any:
    """Return the image processor of a folder."""
    return load_processor(hub.Pretrained(folder, str(folder), None))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("ViTImageProcessor", {"size": {"height": 48, "width": 40}, "resample": 3}),
        ("ViTImageProcessor", {"size": {"height": 48, "width": 48}, "do_normalize": False}),
        ("ViTImageProcessor", {"size": {"height": 48, "width": 48}, "do_rescale": False}),
        ("ViTImageProcessor", {"size": {"height": 48, "width": 48}, "rescale_factor": 0.00784, "resample": 0}),
        (
            "ViTImageProcessor",
            {"size": {"height": 48, "width": 48}, "image_mean": [0.1] * 3, "image_std": [1, 2, 3]},
        ),
        ("DeiTImageProcessor", {"size": {"height": 64, "width": 60}, "crop_size": {"height": 56, "width": 56}}),
        ("EfficientNetImageProcessor", {"size": {"height": 48, "width": 48}, "rescale_offset": True}),
        ("EfficientNetImageProcessor", {"size": {"height": 48, "width": 48}, "include_top": False}),
        ("BeitImageProcessor", {"size": {"height": 48, "width": 48}, "do_center_crop": False}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.875}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 56}, "crop_pct": 0.875}),
        ("MobileNetV2ImageProcessor", {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}),
        ("BitImageProcessor", {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}),
        ("BitImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": {"height": 56, "width": 56}}),
    ],
)
def test_pictures_are_prepared_as_the_processor_does(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **changes}))
    processor = loaded(tmp_path)
    settings = {"labels": ["a", "b"], **processor_settings(processor)}
    (tmp_path / "preprocess.json").write_text(json.dumps(settings))
    model = ImageClassifier(tmp_path)
    photo = Image.fromarray(load_sample_images().images[0])
    for picture in (photo, photo.crop((0, 0, 201, 427)), photo.crop((0, 0, 33, 57)), photo.resize((640, 20))):
        expected = np.asarray(processor([picture], return_tensors="np")["pixel_values"][0], np.float32)
        pixels = model.preprocess(upload(picture))["pixel_values"]
        # pytest.approx takes seconds for as many pixels.
        assert pixels.shape == expected.shape, picture.size
        assert (abs(pixels - expected) <= np.maximum(2e-3, 1e-6 * abs(expected))).all(), picture.size


@pytest.mark.parametrize(
    ("kind", "changes", "step"),
    [
        ("BitImageProcessor", {"do_resize": False}, "do_resize is off"),
        ("BitImageProcessor", {"do_center_crop": False}, "size {'shortest_edge': 224}"),
        ("ViTImageProcessor", {"size": {"longest_edge": 48}}, "size {'longest_edge': 48}"),
        (
            "MobileViTImageProcessor",
            {"size": {"shortest_edge": 64}, "do_flip_channel_order": True},
            "do_flip_channel_order",
        ),
        ("DonutImageProcessor", {"size": {"height": 64, "width": 48}}, "do_thumbnail"),
    ],
)
def test_a_processor_that_does_otherwise_is_refused_by_its_step(
    kind: str, changes: dict[str, Any], step: str, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind, **changes}))
    processor = loaded(tmp_path)
    with pytest.raises(TrainingError, match=f"{kind}.* in a way that models/image cannot .*{re.escape(step)}"):
        check_preprocessing({"labels": ["a", "b"], **processor_settings(processor)}, processor)


@pytest.mark.parametrize("content", ["{", "[]", '{"image_processor_type": "NoImageProcessor"}', "{}"])
def test_a_processor_that_cannot_be_read_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(TrainingError, match="no usable image processor"):
        loaded(tmp_path)


def test_a_picture_of_extreme_shape_is_cut_before_it_is_enlarged(tmp_path: Path) -> None:
    settings = {"labels": ["a"], "width": 224, "height": 224, "shortest_edge": 256, "resample": "BILINEAR"}
    (tmp_path / "preprocess.json").write_text(json.dumps(settings | {"mean": [0] * 3, "std": [1] * 3}))
    model = ImageClassifier(tmp_path)
    assert model.resized(Image.new("RGB", (1, 1_000_000))).size == (224, 224)
    assert model.resized(Image.new("RGB", (1_000_000, 2))).size == (224, 224)
