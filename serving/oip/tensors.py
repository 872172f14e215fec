"""Tensors of the Open Inference Protocol, and their binary form: little-endian, row-major."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from models.model import Array
from serving.oip.errors import ProtocolError

# Datatypes with elements of fixed width; BF16, the upper half of an FP32, and BYTES have none that numpy knows.
DTYPES = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
BF16, BYTES = "BF16", "BYTES"
DATATYPES = (*DTYPES, BF16, BYTES)
LENGTH = struct.Struct("<I")
MAX_SIZE = 2**63 - 1  # of an axis: gRPC has an int64 for it


class Description(NamedTuple):
    """What is known of a tensor before its elements are read."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Tensor:
    """A named tensor; `values` are its elements in row-major order, (elements,).

    Those of BYTES are objects: bytes, or str as JSON has them, or None for null.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Array
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def description(self) -> Description:
        """The tensor without its elements."""
        return Description(self.name, self.datatype, self.shape)


def count_of(name: str, datatype: str, shape: Sequence[int]) -> int:
    """Return the number of elements of a tensor; raise ProtocolError for a datatype or shape that cannot be."""
    if datatype not in DATATYPES:
        raise ProtocolError(
            f"the datatype of {name[:100]} is {datatype[:100]!r}; it must be one of {', '.join(DATATYPES)}"
        )
    if len(shape) not in (1, 2) or not 0 <= min(shape) <= max(shape) <= MAX_SIZE:
        raise ProtocolError(f"the shape of {name[:100]} must be a list of one or two sizes, each from 0 to 2^63 - 1")
    return math.prod(shape)


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """Return the elements of a tensor in its binary form; raise ProtocolError where bytes and shape do not agree."""
    count = count_of(name, datatype, shape)
    if datatype == BYTES:
        return from_raw_bytes(name, count, raw)
    dtype = np.dtype("<u2") if datatype == BF16 else DTYPES[datatype]
    if count * dtype.itemsize != len(raw):
        raise ProtocolError(
            f"{name} has {len(raw):,} bytes; {datatype} of shape {list(shape)} takes {count * dtype.itemsize:,}"
        )
    if datatype == "BOOL":
        flags: Array = np.frombuffer(raw, np.uint8) != 0
        return flags
    values = np.frombuffer(raw, dtype)
    return (values.astype(np.uint32) << 16).view(np.float32) if datatype == BF16 else values


def from_raw_bytes(name: str, count: int, raw: bytes | memoryview) -> Array:
    """Return `count` elements, each preceded by its length in 4 bytes."""
    size = len(raw)
    if count * LENGTH.size > size:
        raise ProtocolError(f"{name} has {size:,} bytes, fewer than the lengths of {count:,} elements take")
    values = np.empty(count, dtype=np.object_)
    place = 0
    for index in range(count):
        start = place + LENGTH.size
        place = start + LENGTH.unpack_from(raw, place)[0] if start <= size else size + 1
        if place > size:
            raise ProtocolError(f"{name} ends before its element {index} does")
        values[index] = bytes(raw[start:place])
    if place != size:
        raise ProtocolError(f"{name} has {size - place:,} bytes after its last element")
    return values


def to_raw(tensor: Tensor) -> bytes:
    """Return the binary form of a tensor, of any datatype but BF16."""
    if tensor.datatype == BYTES:
        elements = tensor.values.tolist()
        # Of a thousand labels two may differ.
        packed = {element: LENGTH.pack(len(raw)) + raw for element in set(elements) for raw in [as_bytes(element)]}
        return b"".join([packed[element] for element in elements])
    return np.ascontiguousarray(tensor.values, DTYPES[tensor.datatype]).tobytes()


def as_bytes(element: str | bytes | None) -> bytes:
    """Return an element of BYTES in its binary form, in which one that is missing is empty."""
    return element.encode("utf-8", "surrogatepass") if isinstance(element, str) else element or b""
