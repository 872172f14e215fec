"""JPEG, PNG and WebP files without what stands beside the pixels.

Viewers show a picture whatever its metadata are like: broken, larger than a reader allows, or made to cost much. So
these are cut out here before Pillow reads the file, all but what tells which side is up.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

# Segments or chunks of one file; no encoder writes as many for the pixels that are admitted.
MAX_PARTS = 50_000
# Bytes of EXIF and of XMP data that are looked at for which side is up.
MAX_METADATA = 2**16

PNG = b"\x89PNG\r\n\x1a\n"
JFIF, ADOBE = b"JFIF\0", b"Adobe"
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
PNG_XMP = b"XML:com.adobe.xmp\0\0\0"
WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF")
ORIENTATION, SHORT = 0x0112, 3
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(="|>)([1-8])')
# Flags of a WebP file that tell of an ICC profile, EXIF and XMP data.
WEBP_METADATA = 0x20 | 0x08 | 0x04


class Contents(NamedTuple):
    """A picture's file cut down to its pixels.

    `orientation` is EXIF's, 1 to 8 where it is known. `bits` is a PNG file's depth per channel. `buffered` is how many
    samples of all channels a decoder holds at once whatever size it decodes to, as progressive JPEG files need it; 0
    for others.
    """

    format: str
    file: bytes
    orientation: int
    bits: int = 8
    buffered: int = 0


def read(data: bytes) -> Contents:
    """Return what a file's pixels need; ValueError or IndexError when it is no JPEG, PNG or WebP file."""
    if data.startswith(b"\xff\xd8\xff"):
        return read_jpeg(data)
    if data.startswith(PNG):
        return read_png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return read_webp(data)
    raise ValueError("another format")


def read_jpeg(data: bytes) -> Contents:
    """Return a JPEG file without application segments and comments, but for those that tell of its colours."""
    kept: list[bytes | memoryview] = [data[:2]]
    exif = xmp = b""
    samples = channels = 0
    progressive = False
    at = 2
    for _ in range(MAX_PARTS):
        at = data.index(b"\xff", at)
        marker = data[at + 1]
        if marker == 0xFF:  # fills up
            at += 1
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # without content
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker == 0xD9 or end < at + 4 or end > len(data):
            break
        segment = data[at:end]
        if marker == 0xDA:  # pixels, up to the end of the file
            buffered = samples if progressive or segment[4] < channels else 0
            return Contents("JPEG", b"".join([*kept, memoryview(data)[at:]]), orientation(exif, xmp), buffered=buffered)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            samples, channels, progressive = frame_samples(segment), segment[9], marker in (0xC2, 0xC6, 0xCA, 0xCE)
        content = segment[4:]
        if content.startswith(EXIF) and marker == 0xE1:
            exif = exif or content
        elif content.startswith(XMP) and marker == 0xE1:
            xmp = xmp or content
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or tells_of_colours(marker, content):
            kept.append(segment)
        at = end
    raise ValueError("a JPEG file without pixels")


def tells_of_colours(marker: int, content: bytes) -> bool:
    """Return whether an application segment of a JPEG file is one that its decoder reads, and whole."""
    return (marker == 0xE0 and content.startswith(JFIF) and len(content) >= 14) or (
        marker == 0xEE and content.startswith(ADOBE) and len(content) >= 12
    )


def frame_samples(segment: bytes) -> int:
    """Return how many samples the channels of a JPEG frame have together, by its SOF segment."""
    height, width = int.from_bytes(segment[5:7]), int.from_bytes(segment[7:9])
    factors = [(channel >> 4) * (channel & 15) for channel in segment[11 : 10 + 3 * segment[9] : 3]]
    return height * width * sum(factors) // max(factors)


def read_png(data: bytes) -> Contents:
    """Return a PNG file with header, palette, transparency and pixels only, of an animation those of the first frame.

    A file that ends without an end chunk gets one.
    """
    chunks: dict[bytes, bytes] = {}
    pixels: list[memoryview] = []
    xmp = b""
    at = len(PNG)
    for _ in range(MAX_PARTS):
        length, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        if kind == b"IEND" or not kind.isalpha():
            break
        end = at + 12 + length
        content = memoryview(data)[at + 8 : end - 4]
        if kind == b"IDAT":
            pixels.append(content)
        elif kind in (b"IHDR", b"PLTE", b"eXIf") or (kind == b"tRNS" and is_intact(data[at:end])):
            chunks.setdefault(kind, data[at:end])
        elif kind == b"iTXt" and content[: len(PNG_XMP)] == PNG_XMP:
            xmp = bytes(content[:MAX_METADATA])
        at = end
    else:
        raise ValueError("a PNG file of too many chunks")
    exif = chunks.pop(b"eXIf", b"")[8:-4][:MAX_METADATA]
    head = [chunks[kind] for kind in (b"IHDR", b"PLTE", b"tRNS") if kind in chunks]
    file = b"".join([PNG, *head, png_chunk(b"IDAT", b"".join(pixels)), png_chunk(b"IEND", b"")])
    return Contents("PNG", file, orientation(exif, xmp), bits=head[0][16])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return b"".join([len(content).to_bytes(4), kind, content, checksum.to_bytes(4)])


def is_intact(chunk: bytes) -> bool:
    """Return whether a PNG chunk is whole and has the checksum that it should have."""
    return len(chunk) >= 12 and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:])


def read_webp(data: bytes) -> Contents:
    """Return a WebP file with its pixels only, of an animation those of the first frame."""
    kept: dict[bytes, bytes] = {}
    metadata: dict[bytes, bytes] = {}
    at = 12
    for _ in range(MAX_PARTS):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        content = data[at + 8 : at + 8 + length]
        if len(kind) < 4 or len(content) < length:  # what follows the pixels may be cut off
            break
        if kind == b"VP8X":
            content = bytes([content[0] & ~WEBP_METADATA]) + content[1:]
        if kind in WEBP_PIXELS or kind == b"VP8X":
            kept.setdefault(kind, content)
        elif kind in (b"EXIF", b"XMP "):
            metadata.setdefault(kind, content[:MAX_METADATA])
        at += 8 + length + length % 2
    else:
        raise ValueError("a WebP file of too many chunks")
    chunks = [
        kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
        for kind, content in kept.items()
    ]
    body = b"".join([b"WEBP", *chunks])
    file = b"RIFF" + len(body).to_bytes(4, "little") + body
    return Contents("WEBP", file, orientation(metadata.get(b"EXIF", b""), metadata.get(b"XMP ", b"")))


def orientation(exif: bytes, xmp: bytes) -> int:
    """Return the orientation that EXIF data tell, else the one that XMP data tell, else 1; they may be damaged.

    The tag is a short number in the first directory of a TIFF file (CIPA DC-008, section 4.6.2).
    """
    tiff = exif.removeprefix(EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is not None:
            (start,) = struct.unpack_from(f"{order}I", tiff, 4)
            (count,) = struct.unpack_from(f"{order}H", tiff, start)
            for at in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind, length, value = struct.unpack_from(f"{order}HHIH", tiff, at)
                if tag == ORIENTATION:
                    return value if (kind, length) == (SHORT, 1) else 1
    except struct.error:  # beyond the end
        pass
    found = XMP_ORIENTATION.search(xmp)
    return int(found[2]) if found else 1
