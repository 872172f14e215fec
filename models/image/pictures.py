"""From a file to the picture that a viewer shows of it, within bounds of pixels and memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageChops
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.image import formats
from models.image.formats import Contents
from models.model import InvalidInputError

# Decoded they have 100 MB. A 24 megapixel camera's picture passes; a larger JPEG file is scaled while it is decoded.
MAX_PIXELS = 25_000_000
MAX_SCALED_PIXELS = 150_000_000
# What three channels of MAX_PIXELS have: 150 MB while a progressive JPEG file is decoded, to whatever size.
MAX_BUFFERED = 3 * MAX_PIXELS
# The opposite of what the tag Orientation tells of, as ImageOps.exif_transpose has it.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Those by a quarter: width and height change places.
TURNED = (5, 6, 7, 8)
END_OF_JPEG = b"\xff\xd9"
# Where pixels are missing, these would be taken for some.
NOISE = bytes(range(1, 255)) * 2


def decode(data: bytes, *, scale: bool = True) -> Image.Image:
    """Return the picture in `data` as RGB, upright; InvalidInputError when it cannot be decoded or is too large.

    `scale` admits JPEG files of more than MAX_PIXELS, in a half, a quarter or an eighth of their size.
    """
    try:
        contents = formats.read(data)
        image = opened(contents)
        pixels = image.width * image.height
        if draft(image, contents, scale=scale):
            return upright(rgb(loaded(contents, image), contents), contents.orientation)
    except Image.DecompressionBombError:
        pixels = 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
    except Exception as error:  # Pillow raises errors of a dozen classes for corrupt files
        raise InvalidInputError("not a readable JPEG, PNG or WebP image", ("image_file",), "image_format") from error
    raise InvalidInputError(
        f"the image has {pixels:,} pixels or more, at most {MAX_PIXELS:,} are allowed, and {MAX_SCALED_PIXELS:,} of a "
        "JPEG that is to be resized",
        ("image_file",),
        "image_pixels",
    )


def upright_size(data: bytes) -> tuple[int, int]:
    """Return the width and height of the picture in `data`, upright; it must be one that `decode` takes."""
    contents = formats.read(data)
    width, height = opened(contents).size
    return (height, width) if contents.orientation in TURNED else (width, height)


def opened(contents: Contents, end: bytes = b"") -> ImageFile:
    """Return a picture whose header only is read, of a file to which `end` is appended."""
    file = io.BytesIO(contents.file + end)
    if contents.format == "JPEG":
        return JpegImageFile(file)
    return PngImageFile(file) if contents.format == "PNG" else WebPImageFile(file)


def draft(image: ImageFile, contents: Contents, *, scale: bool) -> bool:
    """Return whether a picture that is not decoded yet is within the bounds, if need be in a smaller size."""
    pixels = image.width * image.height
    if pixels <= MAX_PIXELS:
        return True
    if contents.format != "JPEG" or not scale or pixels > MAX_SCALED_PIXELS or contents.buffered > MAX_BUFFERED:
        return False
    for divisor in (2, 4, 8):
        if pixels <= MAX_PIXELS * divisor**2:
            image.draft(None, (max(1, image.width // divisor), max(1, image.height // divisor)))
            break
    return image.width * image.height <= MAX_PIXELS


def loaded(contents: Contents, image: ImageFile) -> ImageFile:
    """Return the picture decoded; OSError when pixels are missing, but not when only a JPEG file's end is."""
    try:
        image.load()
        return image
    except OSError:
        if contents.format != "JPEG":
            raise
    whole, other = (opened(contents, end) for end in (END_OF_JPEG, NOISE + END_OF_JPEG))
    for picture in (whole, other):
        draft(picture, contents, scale=True)
        picture.load()
    if any(whole.crop(box).tobytes() != other.crop(box).tobytes() for box in stripes(whole)):
        raise OSError("pixels are missing")
    return whole


def stripes(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes of 64 lines each that make up the image."""
    for top in range(0, image.height, 64):
        yield 0, top, image.width, min(top + 64, image.height)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return the image turned so that it stands as EXIF's orientation tells."""
    method = UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def rgb(image: ImageFile, contents: Contents) -> Image.Image:
    """Return a decoded image in mode RGB, on white where it is transparent."""
    picture: Image.Image = image
    if image.mode.startswith("I"):
        picture = grey(image)
    elif contents.bits == 16:
        picture = colours(image, contents)
    elif image.mode == "L" and "transparency" in image.info:
        # Pillow brings the pixels to 8 bits, but not the value that stands for transparent.
        image.info["transparency"] = image.info["transparency"] * 255 // (2**contents.bits - 1)
    if picture.has_transparency_data:
        picture = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture)
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def grey(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits in 8 bits, stretched where its values have only 8, 10, 12 or 14.

    So cameras, microscopes and scanners write them. What is that dark without it is next to black.
    """
    values = np.asarray(image)
    small = Image.fromarray((values >> (8 - unused_bits(int(values.max())))).astype(np.uint8))
    if (transparent := image.info.get("transparency")) is not None:
        small.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return small


def unused_bits(largest: int) -> int:
    """Return how many of 16 bits stay unused where this is the largest value: 8, 6, 4, 2 or none."""
    return next(unused for unused in (8, 6, 4, 2, 0) if largest < 2**16 >> unused)


def colours(image: ImageFile, contents: Contents) -> Image.Image:
    """Return an image of 16 bits a colour, of which Pillow keeps the upper 8, stretched as `grey` does it."""
    extrema: Any = image.getextrema()
    unused = unused_bits(max(high for _, high in extrema[:3]) << 8)
    if (transparent := image.info.get("transparency")) is not None:
        image.info["transparency"] = tuple(value >> (8 - unused) for value in transparent)
    if not unused:
        return image
    alpha = list(range(256)) if image.mode == "RGBA" else []
    upper = image.point([value << unused & 255 for value in range(256)] * 3 + alpha)
    lower = opened(contents)
    if lower.tile[0].args == "LA;16B":
        return upper  # of these Pillow cannot decode the lower 8 bits
    lower.tile = [lower.tile[0]._replace(args=f"{image.mode};16L")]  # read as little-endian, which they are not
    return ImageChops.add(upper, lower.point([value >> (8 - unused) for value in range(256)] * 3 + [0] * len(alpha)))
