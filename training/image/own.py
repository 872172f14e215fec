"""Image classifiers of the user's own: from the Hugging Face hub, or as an ONNX file or a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import AutoModelForImageClassification, pipeline

from models.image import Upload
from models.model import Array
from training import hub, own
from training.artifact import Artifact, ProgressCallback
from training.image import evaluate, real_pictures, torch_network
from training.image.keras_file import train_from_keras
from training.image.onnx_file import train_from_onnx
from training.image.processor import check_preprocessing, load_processor, prepare, processor_settings

__all__ = ["train_from_hub", "train_from_keras", "train_from_onnx"]


def train_from_hub(source: hub.Pretrained, quantized: bool, data: Path | None, report: ProgressCallback) -> Artifact:
    """Make the artifact of any model for AutoModelForImageClassification, served with its own processor's settings.

    Raises TrainingError if it cannot be served or predicts otherwise than its own pipeline.
    """
    report("loading", 0.0)
    hub.quiet()
    model = hub.load(AutoModelForImageClassification, source)
    labels = own.label_names(model, source)
    processor = load_processor(source)
    settings = {"labels": labels, **processor_settings(processor)}
    check_preprocessing(settings, processor)
    original = pipeline("image-classification", model=model, image_processor=processor, device="cpu")

    def reference(uploads: Sequence[Upload]) -> Array:
        pictures = [real_pictures.shown(upload) for upload in uploads]
        return own.original_scores(original, pictures, labels, top_k=len(labels), batch_size=16)

    ours = torch_network(model, settings, lambda images: prepare(processor, images), data)
    theirs = replace(ours, reference=reference, items=real_pictures.pictures())
    framework = f"transformers {type(model).__name__}"
    return own.train_own(theirs, labels, framework, source.origin, evaluate, quantized, data, report)
