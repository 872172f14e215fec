"""Bad pictures, by mistake or malice, get the status and message of the contract, never a 5xx."""

from __future__ import annotations

import io
import struct
import zlib

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.support.answers import classify
from tests.support.bad_input import error_details
from tests.support.photos import photo, saved


def png_header(width: int, height: int) -> bytes:
    """Return the start of a PNG file that claims this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


NOT_IMAGES = {
    "empty": b"",
    "text": b"not an image",
    "html": b"<html></html>",
    "gif": saved(Image.new("P", (32, 32)), "GIF"),
    "bmp": saved(Image.new("RGB", (32, 32)), "BMP"),
    "truncated jpeg": photo("JPEG", (300, 300))[:2_000],
    "jpeg header": photo("JPEG")[:20],
    "truncated png": photo("PNG", (300, 300))[:-500],
    "png of no pixels": png_header(0, 0),
    "png without data": png_header(100, 100),
    "truncated webp": photo("WEBP", (300, 300))[:-500],
    "null bytes": b"\0" * 10_000,
}


@pytest.mark.parametrize("content", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_what_is_not_an_image_is_422(client: httpx.Client, content: bytes) -> None:
    (problem,) = error_details(classify(client, content), 422)
    assert (problem["loc"], problem["type"]) == (["image_file"], "image_format")


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (5_001, 5_000), (2**31 - 1, 2**31 - 1)])
def test_an_image_of_too_many_pixels_is_422(client: httpx.Client, width: int, height: int) -> None:
    (problem,) = error_details(classify(client, png_header(width, height)), 422)
    assert problem["type"] in ("image_pixels", "image_format")


def test_a_real_decompression_bomb_is_422(client: httpx.Client) -> None:
    bomb = saved(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 500_000
    (problem,) = error_details(classify(client, bomb), 422)
    assert problem["type"] == "image_pixels"


def animation() -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=100, lossless=True)


def rotated() -> bytes:
    """Return a JPEG whose EXIF orientation is rotated by 90 degrees."""
    image = Image.open(io.BytesIO(photo("PNG", (48, 32)))).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, "JPEG", exif=exif.tobytes())


GREY = Image.open(io.BytesIO(photo())).convert("L")
ODD_IMAGES = {
    "cmyk jpeg": saved(GREY.convert("CMYK"), "JPEG"),
    "grey jpeg": saved(GREY, "JPEG"),
    "grey png": saved(GREY, "PNG"),
    "16 bit png": saved(Image.fromarray((np.arange(1024).reshape(32, 32) * 64).astype(np.uint16)), "PNG"),
    "1 bit png": saved(GREY.convert("1"), "PNG"),
    "palette png": saved(GREY.convert("P"), "PNG"),
    "transparent palette png": saved(GREY.convert("P"), "PNG", transparency=0),
    "rgba png": saved(GREY.convert("RGBA"), "PNG"),
    "grey and alpha png": saved(GREY.convert("LA"), "PNG"),
    "animated webp": animation(),
    "rotated jpeg": rotated(),
    "one pixel": saved(Image.new("RGB", (1, 1)), "PNG"),
    "a line": saved(Image.new("RGB", (5_000, 1)), "PNG"),
    "progressive jpeg": saved(GREY, "JPEG", progressive=True),
}


@pytest.mark.parametrize("content", ODD_IMAGES.values(), ids=ODD_IMAGES)
def test_odd_images_are_answered(client: httpx.Client, content: bytes) -> None:
    assert classify(client, content).status_code == 200


def test_a_rotated_image_is_turned_upright(client: httpx.Client) -> None:
    upright = Image.open(io.BytesIO(rotated())).transpose(Image.Transpose.ROTATE_270)
    expected = classify(client, saved(upright, "PNG"), with_post_process="false").json()["logits"]
    assert classify(client, rotated(), with_post_process="false").json()["logits"] == pytest.approx(expected, abs=1e-4)


def test_a_grey_image_of_16_bits_is_that_of_8_bits(client: httpx.Client) -> None:
    wide = Image.fromarray(np.asarray(GREY).astype(np.uint16) * 256)
    expected = classify(client, saved(GREY, "PNG"), with_post_process="false").json()["logits"]
    assert classify(client, saved(wide, "PNG"), with_post_process="false").json()["logits"] == pytest.approx(expected)


def test_of_an_animation_the_first_frame_is_classified(client: httpx.Client) -> None:
    first = saved(Image.new("RGB", (32, 32), "red"), "PNG")
    expected = classify(client, first, with_post_process="false").json()["logits"]
    assert classify(client, animation(), with_post_process="false").json()["logits"] == pytest.approx(
        expected, abs=0.05
    )


def test_a_picture_over_the_limit_is_413(client: httpx.Client) -> None:
    error_details(classify(client, b"\0" * (33 * 2**20)), 413)
