"""Columns of some rows as bytes: the inputs and the results of a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from models.model import Array, Columns


def encoded(columns: Columns) -> bytes:
    """Return columns, an array (n, ...) each, as bytes; what objects are there must be str, bytes or None."""
    return msgspec.msgpack.encode({name: packed(values) for name, values in columns.items()})


def packed(values: Array) -> dict[str, Any]:
    """Return an array as what msgpack has: its dtype, shape and bytes, or a list of texts or files."""
    if not values.dtype.hasobject:
        return {"dtype": values.dtype.str, "shape": values.shape, "data": np.ascontiguousarray(values).tobytes()}
    if any(isinstance(value, str) for value in values):
        # Not as msgpack's text, which has no place for half a pair of surrogates.
        texts = [None if value is None else value.encode("utf-8", "surrogatepass") for value in values]
        return {"dtype": "text", "data": texts}
    return {"dtype": "bytes", "data": values.tolist()}


def decoded(content: bytes) -> dict[str, Array]:
    """Return the columns that `encoded` made bytes of."""
    return {name: unpacked(**found) for name, found in msgspec.msgpack.decode(content).items()}


def unpacked(dtype: str, data: Any, shape: Any = None) -> Array:
    """Return the array that `packed` made something else of."""
    if shape is not None:
        return np.frombuffer(data, dtype).reshape(shape).copy()
    if dtype == "text":
        data = [None if value is None else value.decode("utf-8", "surrogatepass") for value in data]
    return objects(data)


def objects(values: Sequence[Any]) -> Array:
    """Return values as an array of objects."""
    found: Array = np.empty(len(values), dtype=object)
    found[:] = values
    return found
