"""Make pictures and encode them as files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from models.model import Array
from tests.support import ROOT

SHIP = Image.open(ROOT / "docs" / "ship.jpg").convert("RGB").resize((120, 90))


def photo(form: str = "PNG", size: tuple[int, int] = (32, 32)) -> bytes:
    """Return the file of a picture with colour gradients."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
    return saved(Image.fromarray(pixels), form)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    """Encode an image as a file."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> Array:
    """Return the pixels uint8 (height, width, 3) of an image; fail unless it is RGB."""
    assert image.mode == "RGB"
    return np.asarray(image)


def oriented(orientation: Any, kind: int = 3) -> bytes:
    """Return EXIF data whose Orientation tag has this EXIF type: 2 for text, 3 for short."""
    value = orientation if isinstance(orientation, bytes) else struct.pack(">HH", orientation, 0)
    return b"Exif\0\0MM\0*" + struct.pack(">IHHHI", 8, 1, 0x0112, kind, 1) + value + b"\0\0\0\0"


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """Return a PNG chunk, with `checksum` in place of the right one if it is given."""
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right if checksum is None else checksum)
