"""Forms of any size: with files, and with too many parts, headers or parameters."""

from __future__ import annotations

import functools
from typing import Any

from tests.attacks import archives, files
from tests.attacks.json_bodies import Maker, Pattern, repeated
from tests.attacks.targets import Target
from tests.support.rows import ROW, TUMOUR

BOUNDARY = b"x"
MEDIA_TYPE = b"multipart/form-data; boundary=" + BOUNDARY
END = b"\r\n--x--\r\n"
FIELD = b'--x\r\nContent-Disposition: form-data; name="other"'
FILE = b'--x\r\nContent-Disposition: form-data; name="FIELD"; filename="a"'

# A row of each model that takes tables, and how many of them make a file: more texts take longer than there is time.
LEGAL_ROWS: dict[str, tuple[dict[str, Any], int]] = {
    "breast_cancer": (TUMOUR, 100_000),
    "segmentation": (ROW, 100_000),
    "sentiment": ({"text": "a delight from start to finish, and then some more of it"}, 300),
}

# The column of hostile tables, of a model other than segmentation.
COLUMN = {"breast_cancer": "area_se", "sentiment": "text"}

PATTERNS: dict[str, Pattern] = {
    "empty fields": (b"", FIELD + b"\r\n\r\n\r\n", b"--x--\r\n"),
    "empty files": (b"", FILE + b"\r\n\r\n\r\n", b"--x--\r\n"),
    "a long field": (FIELD + b"\r\n\r\n", b"a", END),
    "many digits in a field": (FIELD.replace(b"other", b"with_resize") + b"\r\n\r\n", b"1", END),
    "a field in place of the file": (FILE.partition(b"; filename")[0] + b"\r\n\r\n", b"a", END),
    "a long name of a field": (FIELD[:-6], b"a", b'"\r\n\r\na' + END),
    "a long name of a file": (FILE[:-1], b"a", b'"\r\n\r\na' + END),
    "many headers of a part": (FIELD, b"\r\nA: b", b"\r\n\r\na" + END),
    "a long header of a part": (FIELD + b"\r\nA: ", b"b", b"\r\n\r\na" + END),
    "many parameters of a header": (FIELD, b"; a=b", b"\r\n\r\na" + END),
    "a file without an end": (FILE + b"\r\n\r\n", b"a", b""),
    "no boundary": (b"", b"a", b""),
    "almost boundaries": (FILE + b"\r\n\r\n", b"\r\n--y", END),
    "half boundaries": (FILE + b"\r\n\r\n", b"\r\n-", END),
    "a file in an unknown field": (FIELD + b'; filename="a"\r\n\r\n', b"a", END),
    "open arrays in a field": (FIELD + b"\r\n\r\n", b"[", END),
    "zeros": (b"", b"\0", b""),
}


def form(field: str, contents: list[bytes]) -> bytes:
    """Return a form with files in one field."""
    head = FILE.replace(b"FIELD", field.encode()) + b"\r\n\r\n"
    return b"".join([part for content in contents for part in (head, content, b"\r\n")]) + END[2:]


def file_field(target: Target) -> str:
    """Return the name of a route's file field."""
    names = [name for name, field in target.fields.items() if "binary" in (field | field.get("items", {})).values()]
    return str(names[0])


def takes_pictures(target: Target) -> bool:
    """Return whether a route's files are pictures; else they are tables."""
    return target.path.startswith("/image/")


def takes_archives(target: Target) -> bool:
    """Return whether a route's file is an archive of pictures."""
    return takes_pictures(target) and target.path.endswith("/uploadfile")


def legal(target: Target, size: int, number: int = 0) -> bytes:
    """Return a legal form of nearly `size` bytes for a route; `number` selects one of several."""
    field = file_field(target)
    room = size - 200
    if not takes_pictures(target):
        make = (files.parquet_table, files.csv_table, files.json_table)[number % 3]
        return form(field, [make(room, *LEGAL_ROWS[target.path.split("/")[1]])])
    if takes_archives(target):
        return form(field, [archives.legal(room)])
    # One picture of this size would exceed the bound on pixels.
    count = min(target.fields[field].get("maxItems", 1), 64)
    return form(field, [files.picture(room // count - 100)] * count)


def hostile(target: Target) -> dict[str, Maker]:
    """Return generators of hostile bodies of any size, by name."""
    field = file_field(target)
    if takes_archives(target):
        contents = archives.hostile()
    elif takes_pictures(target):
        contents = files.hostile_pictures()
    else:
        contents = files.hostile_tables(COLUMN.get(target.path.split("/")[1]))

    def upload(make: Maker) -> Maker:
        return lambda size: form(field, [make(size - 200)])

    return {
        **{name: functools.partial(repeated, pattern, field=field) for name, pattern in PATTERNS.items()},
        **{f"a file: {name}": upload(make) for name, make in contents.items()},
    }
