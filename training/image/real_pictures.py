"""Real pictures of great variety, on which users' own models are compared with their originals."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from models.image import Upload

# Modes in which pictures are saved, and formats for each; none is transparent.
MODES = (
    *(("RGB", form) for form in ("JPEG", "PNG", "WEBP")),
    *(("L", form) for form in ("JPEG", "PNG")),
    *((mode, "PNG") for mode in ("P", "1", "LA", "RGBA")),
    ("CMYK", "JPEG"),
)
ORIENTATION = 0x0112


def pictures(count: int = 512) -> list[Upload]:
    """Return parts of scikit-learn's photos: of any size, shape, colour, mode and orientation, in all formats."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    uploads = []
    for number in range(count):
        photo = photos[number % 2]
        width, height = (1 + int(rng.integers(1, side) * rng.uniform()) for side in photo.size)
        width, height = max(width, height // 9), max(height, width // 9)
        left, top = int(rng.integers(0, photo.width - width)), int(rng.integers(0, photo.height - height))
        part = photo.crop((left, top, left + width, top + height))
        if number % 5 == 1:
            part = ImageOps.invert(part) if number % 2 else part.point([value // 4 for value in range(256)] * 3)
        if number % 7 == 1:
            part = part.resize((part.width * 2, part.height * 2))
        mode, form = MODES[number % len(MODES)]
        exif = Image.Exif()
        exif[ORIENTATION] = 1 + number // len(MODES) % 8
        file = io.BytesIO()
        part.convert(mode).save(file, form, exif=exif, compress_level=1, method=0)
        uploads.append(Upload(file.getvalue(), resize=True))
    return uploads


def shown(upload: Upload) -> Image.Image:
    """Return the picture in a file as transformers' pipelines load it."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(upload.data))).convert("RGB")
