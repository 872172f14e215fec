"""Translate image processors of transformers into the settings of `models/image`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor

import models
from models.model import Array
from training import hub
from training.artifact import TrainingError
from training.image import preprocess_file, real_pictures

# Steps that `models/image` does, or that change no pixel of a picture to be classified.
STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_reduce_labels")


def load_processor(source: hub.Pretrained) -> Any:
    """Return the image processor of a preprocessor_config.json, with Pillow as its backend."""
    hub.quiet()
    failed = f"{source.identifier} has no usable image processor"
    return hub.from_pretrained(AutoImageProcessor, source, failed, backend="pil")


def prepare(processor: Any, images: Sequence[Image.Image]) -> Array:
    """Return the pixel values float32 (n, 3, height, width) that a processor of transformers makes."""
    return np.asarray(processor(list(images), return_tensors="np")["pixel_values"], np.float32)


def processor_settings(processor: Any) -> dict[str, Any]:
    """Return a processor's settings for preprocess.json, without labels.

    Raises TrainingError if `models/image` cannot do what it does.
    """
    config = processor.to_dict()
    size, crop = config.get("size") or {}, config.get("crop_size") if config.get("do_center_crop") else None
    edge = size.get("shortest_edge")
    if edge and config.get("crop_pct"):
        # ConvNeXt's processor, also ResNet's: cuts small inputs from the middle, but not large ones.
        crop = {"height": edge, "width": edge} if edge < 384 else None
        size, edge = (size, int(edge / config["crop_pct"])) if crop else ({"height": edge, "width": edge}, None)
    target = crop or size
    if not config.get("do_resize") or "height" not in target or not (edge or "height" in size):
        raise unlike(processor, "resizes", "" if config.get("do_resize") else "do_resize is off")
    settings = {
        "width": target["width"],
        "height": target["height"],
        "resample": Image.Resampling(config["resample"]).name,
        **normalisation(processor),
    }
    if edge:
        settings["shortest_edge"] = edge
    elif size != target:
        settings["whole"] = (size["width"], size["height"])
    return settings


def normalisation(processor: Any) -> dict[str, list[float]]:
    """Return a processor's mean and standard deviation for pixels of 0 to 1, measured on black and white."""
    try:
        black, white = (prepare(processor, [Image.new("RGB", (64, 64), name)])[0] for name in ("black", "white"))
        # Measured in the middle, since there may be a border.
        lowest, highest = (
            pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2].astype(float) for pixels in (black, white)
        )
        std = 1 / (highest - lowest)
    except Exception as error:  # of many classes, as processors raise them
        raise unlike(processor, "prepares", hub.first_line(error)) from error
    return {"mean": (-lowest * std).tolist(), "std": std.tolist()}


def unlike(processor: Any, does: str, why: str) -> TrainingError:
    """Return the error for a processor that does a step in another way than `models/image`."""
    config = processor.to_dict()
    steps = [name for name, value in config.items() if name.startswith("do_") and value and name not in STEPS]
    reason = ", ".join([*steps, why] if why else steps) or f"size {config.get('size')}"
    return TrainingError(f"{type(processor).__name__} {does} images in a way that models/image cannot ({reason})")


def check_preprocessing(settings: dict[str, Any], processor: Any) -> None:
    """Raise TrainingError unless `models/image` preprocesses pictures of many sizes as the processor does."""
    model = models.find("image")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocess.json").write_bytes(preprocess_file(settings)["preprocess.json"])
        ours = model(Path(folder))
    for upload in real_pictures.pictures(64):
        (pixels,) = ours.preprocess(upload).values()
        expected = prepare(processor, [real_pictures.shown(upload)])[0]
        if pixels.shape != expected.shape:
            raise unlike(processor, "prepares", f"{expected.shape} becomes {pixels.shape}")
        # A step of 1 in 255 more or less is rounding.
        steps = abs(pixels - expected) * 255 * np.array(settings["std"])[:, None, None]
        if steps.max() > 1.01 or steps.mean() > 0.01:
            raise unlike(processor, "prepares", f"pixels differ by up to {steps.max():.0f} of 255")
