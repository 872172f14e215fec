"""The image model sees a picture as viewers show it: on white, at any bit depth, of any size."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.image import ImageClassifier, Upload
from models.image.pictures import decode
from models.model import Array, InvalidInputError
from serving.bento.shipped import FOLDER
from tests.support.photos import SHIP, chunk, oriented, pixels, saved

HALF = Image.new("L", SHIP.size, 255)
HALF.paste(0, (0, 0, 60, 90))
SOFT = Image.linear_gradient("L").resize(SHIP.size)


def on_white(image: Image.Image, alpha: Image.Image) -> Array:
    """Blend an image with white by `alpha`; return float64 (height, width, 3)."""
    share = np.asarray(alpha, np.float64)[..., None] / 255
    return np.asarray(image.convert("RGB")) * share + 255 * (1 - share)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("alpha", [HALF, SOFT], ids=["half", "soft"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_what_is_transparent_stands_on_white(mode: str, alpha: Image.Image, form: str) -> None:
    image = SHIP.convert(mode)
    image.putalpha(alpha)
    data = saved(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert abs(pixels(decode(data)) - on_white(SHIP.convert(mode), alpha)).max() <= 1


def test_transparent_colours_of_a_palette_stand_on_white() -> None:
    image = SHIP.quantize(16)
    alphas = bytes(range(0, 256, 17))
    alpha = Image.fromarray(np.frombuffer(alphas, np.uint8)[np.asarray(image)])
    for transparency in (alphas, 3):
        data = saved(image, "PNG", transparency=transparency)
        expected = alpha if transparency == alphas else Image.fromarray((np.asarray(image) != 3).astype(np.uint8) * 255)
        assert abs(pixels(decode(data)) - on_white(image, expected)).max() <= 1


def png(rows: Array, bits: int, kind: int, transparent: bytes = b"") -> bytes:
    """Return a PNG file of packed rows uint8 (height, bytes), of the colour type 0 (grey), 2 (RGB), 4 or 6 (alpha)."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[kind]
    width = rows.shape[1] * 8 // bits // channels
    header = struct.pack(">IIBBBBB", width, len(rows), bits, kind, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"tRNS", transparent) if transparent else b""]
    chunks += [chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_grey_value_that_is_transparent_stands_on_white(bits: int) -> None:
    values = np.arange(16).reshape(2, 8) % 2**bits
    scaled = values * (2**bits - 1) // (min(2**bits, 16) - 1)
    text = ["".join(f"{value:0{bits}b}" for value in row) for row in scaled]
    rows = np.array([[int(row[at : at + 8], 2) for at in range(0, len(row), 8)] for row in text], np.uint8)
    found = pixels(decode(png(rows, bits, 0, struct.pack(">H", scaled[0, 1]))))
    expected = np.where(scaled == scaled[0, 1], 255, scaled * 255 // (2**bits - 1))
    assert abs(found[..., 0] - expected).max() <= 1


def big_endian(values: Array) -> Array:
    """Pack 16-bit values (height, width, channels) into big-endian rows uint8 (height, bytes)."""
    return values.astype(">u2").reshape(len(values), -1).view(np.uint8)


GREY = np.asarray(SHIP.convert("L")).astype(np.uint16)
COLOURS = np.asarray(SHIP).astype(np.uint16)


@pytest.mark.parametrize("used", [8, 10, 12, 14, 16])
def test_of_16_bits_those_that_are_used_count(used: int) -> None:
    factor = 1 << (used - 8)
    assert np.array_equal(pixels(decode(png(big_endian(GREY * factor), 16, 0)))[..., 0], GREY)
    assert np.array_equal(pixels(decode(png(big_endian(COLOURS * factor), 16, 2))), COLOURS)
    alpha = np.full((*GREY.shape, 1), 65535, np.uint16)
    opaque = np.concatenate([COLOURS * factor, alpha], axis=2)
    assert np.array_equal(pixels(decode(png(big_endian(opaque), 16, 6))), COLOURS)


def test_a_grey_picture_of_16_bits_with_transparency_is_stretched_as_far_as_pillow_reads_it() -> None:
    values = np.stack([GREY * 16, np.full_like(GREY, 65535)], axis=2)
    assert abs(pixels(decode(png(big_endian(values), 16, 4)))[..., 0].astype(int) - GREY).max() < 16


def test_a_colour_of_16_bits_that_is_transparent_stands_on_white() -> None:
    for factor in (16, 257):
        values = COLOURS * factor
        data = png(big_endian(values), 16, 2, struct.pack(">3H", *values[40, 60].tolist()))
        assert pixels(decode(data))[40, 60].tolist() == [255, 255, 255]
        other = (COLOURS[40, 60] != COLOURS).any(2)
        assert np.array_equal(pixels(decode(data))[other], COLOURS[other])


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"exif": oriented(6)}], ids=["plain", "progressive", "turned"]
)
def test_a_large_photo_is_scaled_while_it_is_decoded(options: dict[str, Any]) -> None:
    large = SHIP.convert("L").resize((6_400, 4_800))
    data = saved(large, "JPEG", **options)
    image = decode(data)
    assert sorted(image.size) == [2_400, 3_200]
    small = image.resize((90, 120) if "exif" in options else SHIP.size)
    expected = np.rot90(GREY, -1) if "exif" in options else GREY
    assert abs(pixels(small)[..., 0].astype(int) - expected).mean() < 5
    classifier = ImageClassifier(FOLDER / "image")
    assert classifier.preprocess(Upload(data, resize=True))["pixel_values"].shape == (3, 32, 32)
    with pytest.raises(InvalidInputError, match="at most 25,000,000"):
        classifier.preprocess(Upload(data, resize=False))


def claiming(form: str, width: int, height: int, **options: Any) -> bytes:
    """Return a file whose header claims this size in pixels."""
    data = bytearray(saved(SHIP, form, **options))
    if form == "PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + bytes(data[24:29])
        data[12:33] = header + struct.pack(">I", zlib.crc32(header))
    elif form == "JPEG":
        at = max(data.find(b"\xff\xc0\0\x11"), data.find(b"\xff\xc2\0\x11"))
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    else:
        at = data.index(b"\x9d\x01\x2a")
        data[at + 3 : at + 7] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        claiming("PNG", 5_001, 5_000),
        claiming("PNG", 2**31 - 1, 2**31 - 1),
        claiming("WEBP", 5_001, 5_000),
        claiming("WEBP", 16_383, 16_383),
        claiming("JPEG", 12_250, 12_250),
        claiming("JPEG", 65_500, 65_500),
        claiming("JPEG", 5_400, 5_000, progressive=True, subsampling="4:4:4"),
    ],
    ids=["png", "largest png", "webp", "largest webp", "jpeg", "largest jpeg", "progressive jpeg"],
)
def test_a_picture_over_the_bounds_is_refused_before_it_is_decoded(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="pixels or more") as caught:
        decode(data)
    assert (caught.value.location, caught.value.kind) == (("image_file",), "image_pixels")
