"""Image: what does a picture show."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from models.image.pictures import decode, upright_size
from models.model import (
    CLASSIFICATION,
    Array,
    Column,
    Columns,
    Infer,
    InvalidInputError,
    LabelScore,
    Model,
    View,
    classification,
    ranking,
    route,
    softmax,
)

# A photograph of as many pixels as are admitted is smaller by far.
MAX_FORM_BYTES = 32 * 2**20
TOP = 5


class Picture(BaseModel):
    """A picture and what to do with it."""

    image_file: Path = Field(
        description="JPEG, PNG or WebP of at most 25 megapixels, JPEG of at most 150 with with_resize; what is "
        "transparent stands on white, of an animation the first frame is used"
    )
    with_resize: bool = Field(
        default=True, description="resize to the model's input size; otherwise any other size is an error"
    )
    with_post_process: bool = Field(default=True, description="answer labels with scores; otherwise the logits")


class Classification(BaseModel):
    """With post-processing the label, its score and the best five; without it the logits."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"Label": "cat", "Score": 0.93, "predictions": [{"label": "cat", "score": 0.93}]}}
    )

    Label: str | None = None
    Score: float | None = None
    predictions: list[LabelScore] | None = None
    logits: list[float] | None = None


def example() -> bytes:
    """Return a JPEG file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (48, 48), "skyblue").save(file, "JPEG")
    return file.getvalue()


EXAMPLE = example()


class Upload(NamedTuple):
    """An item: the bytes of a file and whether to resize it."""

    data: bytes
    resize: bool


class ImageClassifier(Model[Upload | Array]):
    """An item is an upload, or pixels uint8 (height, width, 3) of the input size; its output the logits (labels,)."""

    input = Path
    inputs = (Column("image", bytes, EXAMPLE),)
    outputs = CLASSIFICATION
    max_items = 64
    max_file_items = 1_000
    # Larger ones gain nothing on a CPU, and those that wait behind them wait longer.
    max_batch = 4

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
        self.labels: list[str] = settings["labels"]
        self.size: tuple[int, int] = (settings["width"], settings["height"])
        self.resample = Image.Resampling[settings["resample"]]
        # Length to which the shorter side is brought before the middle is cut out; without it the whole is resized,
        # to this size.
        self.shortest_edge: int | None = settings.get("shortest_edge")
        self.whole: tuple[int, int] = tuple(settings.get("whole", self.size))
        self.input_name: str = settings.get("input", "pixel_values")
        # (pixel / 255 - mean) / std, folded into one multiplication and one addition.
        std = np.array(settings["std"], dtype=np.float32)
        self.scale = (1 / (255 * std))[:, None, None]
        self.shift = (-np.array(settings["mean"], dtype=np.float32) / std)[:, None, None]

    @classmethod
    @override
    def items(cls, columns: Columns) -> list[Upload | Array]:
        return [Upload(file, resize=True) for file in columns["image"]]

    @override
    def key(self, item: Upload | Array) -> bytes:
        if isinstance(item, np.ndarray):
            return b"pixels" + item.tobytes()
        return bytes([item.resize]) + item.data

    @override
    def preprocess(self, item: Upload | Array) -> dict[str, Array]:
        shown = item if isinstance(item, np.ndarray) else np.asarray(self.seen(item))
        # Turned while they are bytes, and then computed in place: a third of the time.
        pixels = np.ascontiguousarray(shown.transpose(2, 0, 1)).astype(np.float32)
        pixels *= self.scale
        pixels += self.shift
        return {self.input_name: pixels}

    def seen(self, item: Upload) -> Image.Image:
        """Return the image of an upload in the model's input size; raise InvalidInputError where it cannot be used."""
        image = decode(item.data, scale=item.resize)
        if item.resize:
            return self.resized(image)
        if image.size != self.size:
            raise InvalidInputError(
                f"the image is {image.width} x {image.height} pixels, the model takes "
                f"{self.size[0]} x {self.size[1]}; send with_resize=true to resize it",
                ("image_file",),
                "image_size",
            )
        return image

    def view(self, item: Upload) -> View:
        """Return what the model sees of an upload, and which part of the picture that is; raise InvalidInputError."""
        pixels = np.asarray(self.seen(item))
        width, height = upright_size(item.data)
        whole = self.enlarged(width, height) if item.resize else self.size
        # The part in the middle; a side that is shorter than the model's has a border on both ends.
        left, top = ((side - shown) // 2 for side, shown in zip(whole, self.size, strict=True))
        across, down = width / whole[0], height / whole[1]
        box = (left * across, top * down, (left + self.size[0]) * across, (top + self.size[1]) * down)
        return View(pixels, box, width, height)

    def enlarged(self, width: int, height: int) -> tuple[int, int]:
        """Return the size to which a picture is brought before its middle is cut out."""
        if self.shortest_edge is None:
            return self.whole
        shorter = min(width, height)
        return self.shortest_edge * width // shorter, self.shortest_edge * height // shorter

    def resized(self, image: Image.Image) -> Image.Image:
        """Return the image in the model's input size."""
        if self.shortest_edge is None:
            return middle(image.resize(self.whole, self.resample), *self.size)
        width, height = self.enlarged(*image.size)
        if max(image.size) <= 20 * min(image.size):
            return middle(image.resize((width, height), self.resample), *self.size)
        # Of a very long image the middle alone is enlarged: the whole would become gigabytes.
        shown = [min(side, most) for side, most in zip((width, height), self.size, strict=True)]
        left, top = ((side - part) // 2 for side, part in zip((width, height), shown, strict=True))
        across, down = image.width / width, image.height / height
        box = (left * across, top * down, (left + shown[0]) * across, (top + shown[1]) * down)
        return middle(image.resize((shown[0], shown[1]), self.resample, box), *self.size)

    @override
    def columns(self, outputs: Array) -> Columns:
        return classification(softmax(outputs), self.labels)

    @route(max_body_bytes=MAX_FORM_BYTES)
    async def predict(self, request: Picture, infer: Infer[Upload | Array]) -> Classification:
        """Classify one picture."""
        upload = Upload(request.image_file.read_bytes(), request.with_resize)
        logits = (await infer([upload]))[0]
        if not request.with_post_process:
            return Classification(logits=logits.tolist())
        predictions = ranking(softmax(logits), self.labels, TOP)
        return Classification(Label=predictions[0].label, Score=predictions[0].score, predictions=predictions)


def middle(image: Image.Image, width: int, height: int) -> Image.Image:
    """Return the middle of the image, with black borders where it is smaller than that."""
    if image.size == (width, height):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
