"""Attacks by bodies: JSON, digit, table, picture and form bombs."""

from __future__ import annotations

import functools
import gzip
import json
import struct
import zlib

from tests.attacks import files, forms, json_bodies
from tests.attacks.attackers import Attack, Pieces, flood, form_request, request
from tests.attacks.targets import Target
from tests.support.rows import ROW

# Quadratic work on this many digits takes seconds, and every route admits them.
DIGITS = 8_000
LARGE_BYTES = 200 * 2**20
# The largest body of these attacks.
MOST_BYTES = 64 * 2**20
# The size to which small bodies unpack.
UNPACKED_BYTES = 2**30
JSON_BOMBS = (
    "objects without the fields",
    "objects in an unknown field",
    "rows of wrong types",
    "the field again",
    "different keys",
    "escaped letters",
    "numbers of 4,000 digits",
)
SMALL_BYTES = 2**20
FORM_BOMBS = ("empty fields", "empty files", "many headers of a part", "many parameters of a header", "a long field")


def size(target: Target) -> int:
    """Return the size of the bodies for a route, in bytes."""
    return min(target.max_body_bytes, MOST_BYTES)


def json_routes(targets: dict[str, Target]) -> list[Target]:
    """Return the routes that take JSON."""
    return [target for target in targets.values() if not target.form]


def forms_of(targets: dict[str, Target], *, pictures: bool) -> list[Target]:
    """Return the routes that take pictures, or those that take tables."""
    return [target for target in targets.values() if target.form and forms.takes_pictures(target) == pictures]


def json_bombs(targets: dict[str, Target], names: tuple[str, ...] = JSON_BOMBS) -> list[Pieces]:
    """Return bodies that grow when they are parsed, as large as each route admits."""
    return [
        request(target.path, json_bodies.hostile(target)[name](size(target)))
        for name in names
        for target in json_routes(targets)
    ]


def nesting(targets: dict[str, Target]) -> list[Pieces]:
    """Return bodies and files of opening brackets only."""
    names = ("open arrays", "open objects", "open arrays in the field", "short nesting")
    return json_bombs(targets, names) + uploads(targets, *(f"a file: {name}" for name in names))


def uploads(targets: dict[str, Target], *names: str, pictures: bool = False) -> list[Pieces]:
    """Return forms of these kinds for the routes of tables or pictures."""
    found = forms_of(targets, pictures=pictures)
    return [form_request(target.path, forms.hostile(target)[name](size(target))) for name in names for target in found]


def digit_bombs(targets: dict[str, Target]) -> list[Pieces]:
    """Return rows with long numbers that turn out invalid at the end, in JSON and in files."""
    rows = [ROW | {name: "1" * DIGITS + "x"} for name in ("x12", "x63")]
    found: list[Pieces] = [
        request(target.path, json.dumps({target.array: [row]}).encode())
        for target in json_routes(targets)
        if "/segmentation/" in target.path
        for row in rows
    ]
    for target in forms_of(targets, pictures=False):
        for name in ("x12", "x63", "area_se"):
            table = f"{name}\n{'1' * DIGITS}x\n".encode()
            found += [form_request(target.path, forms.form(forms.file_field(target), [table]))]
    return found


def parquet_bombs(targets: dict[str, Target]) -> list[Pieces]:
    """Return small Parquet files of large pages, large entries and many rows."""
    names = ("Parquet that unpacks to large pages", "Parquet with a large entry", "Parquet of many rows")
    return [
        form_request(target.path, forms.hostile(target)[f"a file: {name}"](SMALL_BYTES))
        for target in forms_of(targets, pictures=False)
        for name in names
    ]


def picture_bombs(targets: dict[str, Target]) -> list[Pieces]:
    """Return small files of many pixels, as many of them as a route takes."""
    found: list[Pieces] = []
    for target in forms_of(targets, pictures=True):
        field = forms.file_field(target)
        count = target.fields[field].get("maxItems", 1)
        found += [
            form_request(target.path, forms.form(field, [make(0)] * count))
            for name, make in files.hostile_pictures().items()
            if "unpack" in name or "pixels" in name
        ]
    return found


def form_bombs(targets: dict[str, Target]) -> list[Pieces]:
    """Return forms of many parts, headers and parameters, and some whose boundary never comes."""
    names = (*FORM_BOMBS, "almost boundaries", "half boundaries", "a file without an end")
    return uploads(targets, *names) + uploads(targets, *names, pictures=True)


def large_uploads(targets: dict[str, Target]) -> list[Pieces]:
    """Return legal tables of 200 MiB."""
    return [
        form_request(target.path, forms.legal(target, min(LARGE_BYTES, target.max_body_bytes), number))
        for target in forms_of(targets, pictures=False)
        for number in range(2)
    ]


@functools.cache
def packed() -> bytes:
    """Return a gzip stream of a megabyte that unpacks to a gigabyte."""
    plain = b" " * 2**24
    times = UNPACKED_BYTES // len(plain)
    # After a full flush a block does not depend on those before it, so that it can be repeated.
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH)
    checksum = functools.reduce(lambda sum_, _: zlib.crc32(plain, sum_), range(times), 0)
    trailer = struct.pack("<II", checksum, UNPACKED_BYTES)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * times + compressor.flush() + trailer


def gzip_bombs(targets: dict[str, Target]) -> list[Pieces]:
    """Return small bodies that unpack to large ones, once or twice."""
    codings = [(packed(), b"gzip"), (gzip.compress(packed()), b"gzip, gzip"), (packed(), b"deflate")]
    return [
        request(target.path, body[: target.max_body_bytes], media_type, (b"Content-Encoding", coding))
        for target in targets.values()
        for media_type in [forms.MEDIA_TYPE if target.form else b"application/json"]
        for body, coding in codings
    ]


def wide_tables(targets: dict[str, Target]) -> list[Pieces]:
    """Return CSV files of a million columns, and of lines of a million cells."""
    names = ("CSV with many columns", "CSV with many different columns", "CSV with a line of many cells")
    return uploads(targets, *(f"a file: {name}" for name in names))


ATTACKS = [
    Attack("json-bombs", flood, json_bombs),
    Attack("digit-bombs", flood, digit_bombs),
    Attack("deep-nesting", flood, nesting),
    Attack("wide-csv", flood, wide_tables),
    Attack("parquet-bombs", flood, parquet_bombs),
    Attack("picture-bombs", flood, picture_bombs),
    Attack("form-bombs", flood, form_bombs),
    Attack("large-uploads", flood, large_uploads),
    Attack("gzip-bombs", flood, gzip_bombs),
]
