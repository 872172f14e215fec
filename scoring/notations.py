"""Numbers in a notation of a column's own, such as '$5,547.78', read together by the shapes of their texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import AllowInfNan, BeforeValidator, Strict

from models.model import Array, Column, InvalidInputError

ZERO, NINE, POINT = ord("0"), ord("9"), ord(".")
# Of more shapes than this the texts are no numbers in a notation.
MAX_SHAPES = 1_000


def has_shapes(column: Column) -> bool:
    """Return whether a column's texts are parsed by a validator and its numbers have no bounds."""
    plain = [entry for entry in column.metadata if not isinstance(entry, Strict | AllowInfNan)]
    return column.notation and column.base is float and all(isinstance(entry, BeforeValidator) for entry in plain)


def shaped_numbers(column: Column, text: pa.Array) -> tuple[Array, Array]:
    """Return texts as float64 (n,), and which of them are read: the column itself has to look at the others.

    A text's shape is the text with 9 for the first digit of a number, unless that is 0, and 0 for every other digit. A
    notation is taken to tell by the shape whether a text is a number and of which sign. Of each shape the column reads
    one text; if that is the number of its digits, or the negative, so are the others.
    """
    count = len(text)
    offsets, data = bytes_of(text)
    digit = (data >= ZERO) & (data <= NINE)
    first = digit.copy()
    first[1:] &= ~digit[:-1]
    starts = offsets[:-1][offsets[:-1] < len(data)]
    first[starts] = digit[starts]
    shapes = texts(offsets, np.where(digit, np.where(first & (data != ZERO), NINE, ZERO), data).astype(np.uint8))
    encoded = shapes.dictionary_encode()
    signs = np.zeros(max(1, len(encoded.dictionary)))
    if not count or len(encoded.dictionary) > MAX_SHAPES:
        return np.full(count, np.nan), np.zeros(count, dtype=np.bool_)
    codes = encoded.indices.to_numpy()
    legible = np.array([is_legible(shape) for shape in encoded.dictionary.to_pylist()])[codes]
    kept = digit | (data == POINT)
    ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept)])[offsets]
    digits = texts(ends, data[kept])
    values = numbers_of(digits, legible)
    # 0 would not tell the sign.
    known = np.flatnonzero(values > 0)
    found, places = np.unique(codes[known], return_index=True)
    for code, row in zip(found.tolist(), known[places].tolist(), strict=True):
        signs[code] = sign(column, text[row].as_py(), values[row])
    signed = signs[codes]
    return signed * values, (signed != 0) & ~np.isnan(values)


def bytes_of(text: pa.Array) -> tuple[Array, Array]:
    """Return where texts begin and end in their bytes, int64 (n + 1,), and the bytes; of null none."""
    filled = text.cast(pa.large_string()).fill_null("")
    _, ends, data = filled.buffers()
    offsets = np.frombuffer(ends, np.int64)[filled.offset : filled.offset + len(filled) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return offsets - offsets[0], content[offsets[0] : offsets[-1]]


def texts(offsets: Array, data: Array) -> pa.Array:
    """Return the texts that begin and end at these places of bytes."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)


def is_legible(shape: str) -> bool:
    """Return whether the digits and the point of a shape make a number."""
    return ("0" in shape or "9" in shape) and shape.count(".") <= 1 and len(shape) <= 100


def numbers_of(digits: pa.Array, legible: Array) -> Array:
    """Return the numbers of texts of digits, NaN where these are not legible."""
    floats = pa.compute.if_else(pa.array(legible), digits, pa.scalar(None, digits.type)).cast(pa.float64())
    found: Array = floats.fill_null(np.nan).to_numpy(zero_copy_only=False)
    return found


def sign(column: Column, text: str, value: float) -> float:
    """Return 1 or -1 where the column reads a text as this value or its negative; 0 where as none of them."""
    cell: Any = np.array([text], dtype=np.object_)
    try:
        found = column.checked(cell)[0]
    except InvalidInputError:
        return 0
    return 1 if found == value else -1 if found == -value else 0
