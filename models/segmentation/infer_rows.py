"""The rows of a JSON body of `infer`, of which BentoML is to parse nothing but what the model reads."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from models.model import LARGE_BYTES, RAW_ITEMS, stand_in
from models.segmentation.columns import NAMES, PLACES, USED
from models.segmentation.rows import MAX_NESTED, MAX_ROWS, Slice, brackets, by_known_names, cut, split

# What is read of the columns of so many rows is seldom half as long.
LONG_SLICE_BYTES = 2**18
LONGEST_CATEGORY = max(len(category) for categories in PLACES.values() for category in categories)


RAW_ROW: Any = msgspec.defstruct(
    "RawRow", [(name, msgspec.Raw, msgspec.Raw()) for name in USED], gc=False, omit_defaults=True
)
BY_NAME = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
RAW_ROWS = msgspec.json.Decoder(list[RAW_ROW])


def without_unread(body: bytes) -> bytes:
    """Return a JSON body of `infer` with nothing but the columns that the model reads, by their own names.

    It ends with the first slice of rows that the schema refuses, where that shows here.
    """
    rows = split(body, RAW_ITEMS)
    if rows is None:
        return body if len(body) <= LARGE_BYTES else stand_in(body, "items")
    if len(rows) > MAX_ROWS:
        return b'{"items":[' + b",".join([b"{}"] * len(rows)) + b"]}"  # refused
    if len(body) <= LARGE_BYTES and brackets(body) - len(rows) > MAX_NESTED:
        return body  # the schema decides whether it is nested too deeply
    parts: list[bytes] = []
    for text in cut(rows):
        part = slice_without_unread(text)
        parts.append((part or text)[1:-1])
        if part is None:
            break
    return b'{"items":[' + b",".join(parts) + b"]}"


def slice_without_unread(text: bytes) -> bytes | None:
    """Return a JSON list of rows with nothing but the columns that the model reads, by their own names.

    Return None where the schema refuses one: it is no row, a column stands twice, or what is long does not fit.
    """
    try:
        if NAMES.has_odd_names(text):
            read = msgspec.json.encode([by_known_names(row) for row in BY_NAME.decode(text)])
        else:
            read = msgspec.json.encode(RAW_ROWS.decode(text))
        if len(read) > LONG_SLICE_BYTES:
            rows = Slice.model_validate_json(b'{"data":' + read + b"}").data
            read = msgspec.json.encode([{name: cut_category(value) for name, value in row.items()} for row in rows])
    except (msgspec.DecodeError, PydanticCustomError, ValidationError):
        return None
    return read


def cut_category(value: float | str | None) -> float | str | None:
    """Return a value of a column, of a long text so much that it still is none of the categories."""
    return value.strip()[: LONGEST_CATEGORY + 1] if isinstance(value, str) else value
