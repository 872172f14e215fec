"""Files of any size for uploads: tables and pictures, legal and hostile."""

from __future__ import annotations

import functools
import io
import json
import math
import re
import struct
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from tests.attacks.json_bodies import PATTERNS, Maker, Pattern, repeated
from tests.support.photos import photo, saved

TABLES: dict[str, Pattern] = {
    "CSV with many columns": (b"x0", b",x", b"\n1\n"),
    "CSV with many different columns": (b"x0", b"".join(b",c%x" % number for number in range(2**13)), b"\n1\n"),
    "CSV with a line of many cells": (b"x0\n1", b",1", b"\n"),
    "CSV with many short lines": (b"x0\n", b"1\n", b""),
    "CSV with empty lines": (b"x0\n", b"\n", b""),
    "CSV with a long cell": (b"x5\n", b"a", b"\n"),
    "CSV with an open quote": (b'x5\n"', b"a\n", b""),
    "CSV of quotes": (b"x5\n", b'""', b"\n"),
    "CSV with no amount": (b"x12\n", b"1", b"x\n"),
    "CSV with no percentage": (b"x63\n", b"1", b"x\n"),
    "CSV with a number of many digits": (b"x0\n", b"1", b"\n"),
    "CSV of delimiters": (b"x0,x1\n", b",;\t|", b"\n"),
    "CSV with a long name": (b"x0,", b"a", b"\n1,1\n"),
    "lines of JSON": (b"", b'{"x0":1}\n', b""),
    "JSON without data": (b'{"other":[', b'{"x0":1},', b"{}]}"),
    "carriage returns": (b"x0\r", b"1\r", b""),
    "zeros": (b"", b"\0", b""),
}
PICTURES: dict[str, Pattern] = {
    "a picture and what is none": (photo(), b"a", b""),
    "JPEG of markers": (b"\xff\xd8", b"\xff\xe1\x00\x08Exif\0\0", b"\xff\xd9"),
    "JPEG of fill bytes": (b"\xff\xd8", b"\xff", b"\xd9"),
    "GIF": (photo("GIF"), b"\0", b""),
    "zeros": (b"\x89PNG\r\n\x1a\n", b"\0", b""),
}
# Characters to which the few bytes of a page unpack.
PAGE_CHARACTERS = 2**26
PIXELS = 24_900_000
SIDE = 4_990


def csv_table(size: int, row: dict[str, Any], rows: int) -> bytes:
    """Return a CSV file of `rows` rows, as wide as `size` bytes allow."""
    names = ",".join(row).encode() + b"\n"
    line = ",".join(f'"{value}"' if "," in str(value) else str(value) for value in row.values()).encode()
    width = min((size - len(names)) // rows, 2**20 - 100)
    # A column that the service does not know fills the rest.
    cell = max(0, width - len(line) - 2)
    return names.replace(b"\n", b",note\n") + (line + b"," + b"a" * cell + b"\n") * min(rows, size // (len(line) + 2))


def json_table(size: int, row: dict[str, Any], rows: int) -> bytes:
    """Return a JSON file of `rows` rows, padded with white space to `size` bytes."""
    text = json.dumps(row).encode()
    count = min(rows, (size - 20) // (len(text) + 2))
    table = b'{"data": [' + b", ".join([text] * count) + b"]}"
    return table + b" " * (size - len(table))


def parquet(compression: dict[str, str], columns: dict[str, Any], **options: Any) -> bytes:
    """Return a Parquet file of one group of rows."""
    file = io.BytesIO()
    options = {"compression": compression, "data_page_size": 2**30, "write_statistics": False, **options}
    pyarrow.parquet.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def parquet_table(size: int, row: dict[str, Any], rows: int) -> bytes:
    """Return a Parquet file of `rows` rows, most of it a column that the service does not know."""
    few = dict(list(row.items())[:6])
    rows = min(rows, size // 200)
    pad = (size - 2 * len(few) * rows - 1_000 * len(few) - 4_000) // rows - 4
    columns: dict[str, Any] = {name: [value] * rows for name, value in few.items()}
    columns["note"] = pa.array([b"a" * pad] * rows, pa.binary())
    return parquet(dict.fromkeys(columns, "NONE"), columns, use_dictionary=list(few))


@functools.cache
def parquet_bomb(name: str = "x5", *, dictionary: bool) -> bytes:
    """Return a small Parquet file of large pages: one value repeated, or once in a dictionary."""
    text = "a" * (PAGE_CHARACTERS if dictionary else 2**16)
    codes = pa.array(np.zeros(100_000 if dictionary else PAGE_CHARACTERS // len(text), np.int32))
    column = pa.DictionaryArray.from_arrays(codes, [text])
    texts = column if dictionary else column.cast(pa.string())
    return parquet({name: "ZSTD"}, {name: texts}, use_dictionary=dictionary)


@functools.cache
def parquet_rows(name: str = "x0") -> bytes:
    """Return a small Parquet file of 10 million rows."""
    return parquet({name: "ZSTD"}, {name: np.zeros(10_000_000)}, row_group_size=2**26)


def padded(file: bytes, size: int) -> bytes:
    """Return a file padded with trailing zeros."""
    return file.ljust(size, b"\0")


def padded_parquet(file: bytes, size: int) -> bytes:
    """Return a Parquet file with zeros before its footer, where readers do not look."""
    footer = int.from_bytes(file[-8:-4], "little") + 8
    return file[:-footer] + bytes(max(0, size - len(file))) + file[-footer:]


@functools.lru_cache(2)
def picture(size: int) -> bytes:
    """Return a picture of noise, which cannot be compressed, of at most `size` bytes."""
    width = min(int(math.sqrt((size - 500) / 3.01)), SIDE)
    pixels = np.random.default_rng(0).integers(0, 256, (width, width, 3), np.uint8)
    return saved(Image.fromarray(pixels), "PNG", compress_level=0)


@functools.cache
def flat_picture(form: str) -> bytes:
    """Return a small picture file of as many pixels as are admitted."""
    return saved(Image.new("RGB", (SIDE, SIDE)), form)


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Return a PNG whose header claims this size, with these chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (header, *chunks, (b"IEND", b""))
    )


@functools.cache
def compressed_bomb(size: int) -> bytes:
    """Return a zlib stream of `size` zeros."""
    return zlib.compress(b"\0" * size, 9)


def renamed(pattern: Pattern, column: str) -> Pattern:
    """Return a pattern of a table whose columns have another model's name."""
    start, unit, end = (re.sub(rb"\bx\d+\b", column.encode(), part) for part in pattern)
    return start, unit, end


def hostile_tables(column: str | None) -> dict[str, Maker]:
    """Return generators of hostile tables of any size, by name; of one column where it is given."""
    patterns = PATTERNS | {name: renamed(table, column) if column else table for name, table in TABLES.items()}
    text, number = column or "x5", column or "x0"
    return {
        **{name: functools.partial(repeated, pattern, field="data") for name, pattern in patterns.items()},
        "Parquet that unpacks to large pages": lambda size: padded_parquet(parquet_bomb(text, dictionary=False), size),
        "Parquet with a large entry": lambda size: parquet_bomb(text, dictionary=True),
        "Parquet of many rows": lambda size: parquet_rows(number),
        "Parquet without an end": lambda size: b"PAR1".ljust(size, b"\0"),
    }


def hostile_pictures() -> dict[str, Maker]:
    """Return generators of hostile pictures of any size, by name."""
    small = zlib.compress(b"\0" * 97)
    return {
        **{name: functools.partial(repeated, pattern, field="") for name, pattern in PICTURES.items()},
        "PNG of many pixels": lambda size: padded(png(50_000, 50_000, (b"IDAT", compressed_bomb(2**26))), size),
        "PNG that unpacks": lambda size: padded(flat_picture("PNG"), size),
        "JPEG that unpacks": lambda size: padded(flat_picture("JPEG"), size),
        "WebP that unpacks": lambda size: padded(flat_picture("WEBP"), size),
        "PNG with a note that unpacks": lambda size: padded(
            png(32, 1, (b"zTXt", b"a\0\0" + compressed_bomb(2**26)), (b"IDAT", small)), size
        ),
        "PNG with a profile that unpacks": lambda size: padded(
            png(32, 1, (b"iCCP", b"a\0\0" + compressed_bomb(2**26)), (b"IDAT", small)), size
        ),
        "PNG of many chunks": lambda size: png(32, 1, *[(b"tEXt", b"a\0b")] * (size // 15 - 10), (b"IDAT", small)),
        "PNG with a long chunk": lambda size: png(32, 1, (b"tEXt", b"a\0" + b"b" * (size - 150)), (b"IDAT", small)),
    }
