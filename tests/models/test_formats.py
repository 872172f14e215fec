"""Pictures are decoded to the pixels that Pillow reads, whatever metadata their files hold."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from models.image.formats import read
from models.image.pictures import decode
from models.model import Array, InvalidInputError
from tests.support.photos import SHIP, chunk, oriented, pixels, saved


def as_pillow_has_it(data: bytes) -> Array:
    """Decode a file with Pillow alone; return its pixels uint8 (height, width, 3)."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXACT = {
    **{f"jpeg of quality {q}": saved(SHIP, "JPEG", quality=q) for q in (30, 75, 100)},
    **{f"jpeg of subsampling {s}": saved(SHIP, "JPEG", subsampling=s) for s in ("4:4:4", "4:2:2", "4:2:0")},
    **{f"jpeg of orientation {o}": saved(SHIP, "JPEG", exif=oriented(o)) for o in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 600)},
    **{f"{mode} jpeg": saved(SHIP.convert(mode), "JPEG") for mode in ("L", "CMYK")},
    **{f"{mode} png": saved(SHIP.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB", "RGBA", "LA")},
    "progressive jpeg": saved(SHIP, "JPEG", progressive=True),
    "jpeg with restarts": saved(SHIP, "JPEG", restart_marker_rows=1),
    "jpeg with profile": saved(SHIP, "JPEG", icc_profile=PROFILE),
    "jpeg with comment": saved(SHIP, "JPEG", comment="a ship"),
    "jpeg told by XMP": saved(SHIP, "JPEG", xmp=b'<x tiff:Orientation="6"/>'),
    "turned png": saved(SHIP, "PNG", exif=oriented(6)),
    "png of 2 bits": saved(SHIP.quantize(4), "PNG", bits=2),
    "webp": saved(SHIP, "WEBP"),
    "webp without loss": saved(SHIP, "WEBP", lossless=True),
    "turned webp": saved(SHIP, "WEBP", exif=oriented(8)),
    "webp told by XMP": saved(SHIP, "WEBP", xmp=b"<tiff:Orientation>3</tiff:Orientation>"),
    "animated webp": saved(SHIP, "WEBP", save_all=True, append_images=[ImageOps.invert(SHIP)], duration=50),
    "animated png": saved(SHIP, "PNG", save_all=True, append_images=[ImageOps.invert(SHIP)], duration=50),
}  # fmt: skip


@pytest.mark.parametrize("data", EXACT.values(), ids=EXACT)
def test_what_pillow_reads_is_read_the_same(data: bytes) -> None:
    assert np.array_equal(pixels(decode(data)), as_pillow_has_it(data))


def png_with(*chunks: bytes, image: Image.Image = SHIP) -> bytes:
    """Return a PNG file with these chunks before its pixel data."""
    data = saved(image, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_with(*segments: bytes) -> bytes:
    """Return a JPEG file with these segments (marker and content) at its start."""
    data = saved(SHIP, "JPEG")
    parts = [segment[:2] + struct.pack(">H", len(segment)) + segment[2:] for segment in segments]
    return data[:2] + b"".join(parts) + data[2:]


def webp_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a WebP file with these chunks (kind and content) after its pixel data."""
    data = saved(SHIP, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0")
    kept = data[: data.index(b"EXIF")]
    body = kept[8:] + b"".join(kind + struct.pack("<I", len(content)) + content for kind, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


TRANSPARENT = struct.pack(">HHH", *np.asarray(SHIP)[0, 0].tolist())
BOMB = zlib.compress(b"\0" * 2**22)
SHORT = b"Exif\0\0MM\0*" + struct.pack(">IHHHI", 8, 40, 0x0112, 3, 1)
ODD_METADATA = {
    "orientation as text": jpeg_with(b"\xff\xe1" + oriented(b"6\0\0\0", kind=2)),
    "exif cut off": jpeg_with(b"\xff\xe1" + SHORT),
    "exif of another byte order": jpeg_with(b"\xff\xe1Exif\0\0XX\0*\0\0\0\x08\0\1"),
    "exif that points to itself": jpeg_with(b"\xff\xe1Exif\0\0MM\0*" + struct.pack(">IHHHII", 8, 1, 0x8769, 4, 1, 8)),
    "exif of nothing": jpeg_with(b"\xff\xe1Exif\0\0"),
    "jfif cut off": jpeg_with(b"\xff\xe0JFIF\0"),
    "profile cut off": jpeg_with(b"\xff\xe2ICC_PROFILE\0"),
    "profile of missing parts": jpeg_with(b"\xff\xe2ICC_PROFILE\0\2\5abc"),
    "photoshop cut off": jpeg_with(b"\xff\xedPhotoshop 3.0\x008BIM\4"),
    "several pictures, of which none follows": jpeg_with(b"\xff\xe2MPF\0MM\0*\0\0\0\x08\0\2"),
    "bytes between segments": saved(SHIP, "JPEG")[:20] + b"\0\1\2" + saved(SHIP, "JPEG")[20:],
    "bytes after the end": saved(SHIP, "JPEG") + b"\0" * 1000 + b"\xff\xd8",
    "jpeg without its end": saved(SHIP, "JPEG")[:-2],
    "progressive jpeg without its end": saved(SHIP, "JPEG", progressive=True)[:-2],
    "jpeg with restarts without its end": saved(SHIP, "JPEG", restart_marker_rows=1)[:-2],
    "jpeg filled up instead of its end": saved(SHIP, "JPEG")[:-2] + b"\0" * 600,
    "large text": png_with(chunk(b"zTXt", b"workflow\0\0" + BOMB)),
    "large text of UTF-8": png_with(chunk(b"iTXt", b"prompt\0\1\0\0\0" + BOMB)),
    "large profile": png_with(chunk(b"iCCP", b"ICC\0\0" + BOMB)),
    "much text": png_with(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 2**20))] * 70),
    "profile compressed otherwise": png_with(chunk(b"iCCP", b"ICC\0\7abc")),
    "text compressed otherwise": png_with(chunk(b"zTXt", b"a\0\7abc")),
    "wrong checksum": png_with(chunk(b"pHYs", struct.pack(">IIB", 3000, 3000, 1), checksum=7)),
    "wrong checksum of transparency": png_with(chunk(b"tRNS", TRANSPARENT, checksum=7)),
    "chunks cut short": png_with(
        chunk(b"gAMA", b"\0"), chunk(b"cHRM", b"\0"), chunk(b"pHYs", b""), chunk(b"sRGB", b"")
    ),
    "animation cut short": png_with(chunk(b"acTL", b"\0\0"), chunk(b"fcTL", b"\0")),
    "broken exif in png": png_with(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x28")),
    "unknown chunk": png_with(chunk(b"xxXx", b"a" * 9)),
    "png without its end": saved(SHIP, "PNG")[:-12],
    "png cut off in its end": saved(SHIP, "PNG")[:-7],
    "png cut off after its pixels": saved(SHIP, "PNG")[:-16],
    "broken exif in webp": webp_with((b"EXIF", b"Exif\0\0MM\0*\0\0\0\x08\0\x28")),
    "unknown chunk in webp": webp_with((b"abcd", b"12")),
    "webp that tells of an exif that is missing": webp_with(),
    "webp cut off after its pixels": webp_with((b"EXIF", b"12345678"))[:-4],
}


@pytest.mark.parametrize("data", ODD_METADATA.values(), ids=ODD_METADATA)
def test_what_stands_beside_the_pixels_does_no_harm(data: bytes) -> None:
    form = {b"\xff": "JPEG", b"\x89": "PNG", b"R": "WEBP"}[data[:1]]
    options = {"progressive": True} if b"\xff\xc2" in data else {}
    assert np.array_equal(pixels(decode(data)), as_pillow_has_it(saved(SHIP, form, **options)))


@pytest.mark.parametrize(("kind", "value"), [(0x0100, b"wide"), (0x0100, -1), (0x0103, 70_000)])
def test_a_picture_is_turned_although_another_tag_cannot_be_written(kind: int, value: Any) -> None:
    tag = (
        struct.pack(">HHI4s", kind, 2, 4, value)
        if isinstance(value, bytes)
        else struct.pack(">HHIi", kind, 9, 1, value)
    )
    exif = b"MM\0*" + struct.pack(">IH", 8, 2) + tag + struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + b"\0" * 4
    data = jpeg_with(b"\xff\xe1Exif\0\0" + exif)
    assert np.array_equal(pixels(decode(data)), np.rot90(as_pillow_has_it(saved(SHIP, "JPEG")), -1))


def test_metadata_are_cut_out_unread() -> None:
    bombs = [chunk(kind, b"a\0\0" + BOMB) for kind in (b"iCCP", b"zTXt")] * 100
    assert len(read(png_with(*bombs)).file) < 2 * len(saved(SHIP, "PNG"))
    assert len(read(jpeg_with(*[b"\xff\xe1Exif\0\0" + b"a" * 60_000] * 50)).file) < 2 * len(saved(SHIP, "JPEG"))


CUT = {
    "jpeg": saved(SHIP, "JPEG")[:-40],
    "progressive jpeg": saved(SHIP, "JPEG", progressive=True)[:-100],
    "jpeg with restarts": saved(SHIP, "JPEG", restart_marker_rows=1)[:-60],
    "jpeg of header": saved(SHIP, "JPEG")[:300],
    "grey jpeg": saved(SHIP.convert("L"), "JPEG")[:-40],
    "png": saved(SHIP, "PNG")[:-200],
    "webp": saved(SHIP, "WEBP")[:-60],
    "png of too many chunks": png_with(*[chunk(b"tEXt", b"a")] * 60_000),
    "jpeg of too many segments": jpeg_with(*[b"\xff\xfe"] * 60_000),
    "wrong checksum of the header": saved(SHIP, "PNG")[:29] + b"abcd" + saved(SHIP, "PNG")[33:],
}


@pytest.mark.parametrize("name", CUT)
def test_a_picture_whose_pixels_are_missing_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="not a readable"):
        decode(CUT[name])


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from([*EXACT.values(), ODD_METADATA["broken exif in webp"]])))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(file) - 1, 900)))
        file[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        assert decode(bytes(file)).mode == "RGB"
    except InvalidInputError:
        pass
