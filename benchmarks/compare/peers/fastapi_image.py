"""An image classifier on FastAPI, Pillow and onnxruntime, preprocessing as preprocess.json beside its graph says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import onnxruntime
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from pydantic import BaseModel

FOLDER = Path(os.environ["MODEL"])
TOP = 5
settings = json.loads((FOLDER / "preprocess.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
mean, std = (np.array(settings[name], dtype=np.float32) for name in ("mean", "std"))
app = FastAPI()


class LabelScore(BaseModel):
    """A label and its probability."""

    label: str
    score: float


class Classification(BaseModel):
    """The best five labels."""

    predictions: list[LabelScore]


def preprocess(image: Image.Image) -> np.ndarray:
    """Resize the shorter side, crop the centre and normalise; return pixels as float32 (1, 3, height, width)."""
    image = image.convert("RGB")
    scale = settings["shortest_edge"] / min(image.size)
    image = image.resize(
        [max(settings["shortest_edge"], int(side * scale)) for side in image.size],
        Image.Resampling[settings["resample"]],
    )
    width, height = settings["width"], settings["height"]
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32) / 255
    return ((pixels - mean) / std).transpose(2, 0, 1)[None]


@app.post("/predict")
def predict(image_file: Annotated[UploadFile, File()]) -> Classification:
    """Classify one picture."""
    (logits,) = session.run(None, {session.get_inputs()[0].name: preprocess(Image.open(image_file.file))})
    odds = np.exp(logits[0] - logits[0].max())
    scores = odds / odds.sum()
    return Classification(
        predictions=[LabelScore(label=settings["labels"][i], score=float(scores[i])) for i in np.argsort(-scores)[:TOP]]
    )
