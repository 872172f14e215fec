"""Tensors of the Open Inference Protocol (v2), in JSON and in binary form: little-endian, row-major."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BYTES = "BYTES"
# The characters by which `struct` knows the datatypes with elements of fixed width.
FORMATS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Tensor:
    """A named tensor; `data` holds its elements in row-major order, None where one is missing.

    Those of BYTES are texts, or the bytes of files.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]


def column(name: str, values: Sequence[Any], datatype: str = "FP64") -> Tensor:
    """Return the values of a column as a tensor of shape (rows,)."""
    return Tensor(name, datatype, (len(values),), values)


def head(tensor: Tensor) -> dict[str, Any]:
    """Return what JSON says of a tensor besides its elements."""
    return {"name": tensor.name, "shape": tensor.shape, "datatype": tensor.datatype}


def to_json(tensor: Tensor) -> dict[str, Any]:
    """Return an input in JSON, files in Base64."""
    if any(isinstance(element, bytes) for element in tensor.data):
        texts = [base64.b64encode(element).decode() for element in tensor.data]
        return {**head(tensor), "parameters": {"content_type": "base64"}, "data": texts}
    return {**head(tensor), "data": tensor.data}


def to_raw(tensor: Tensor) -> bytes:
    """Return the elements in binary form, in which a missing number is NaN and a missing text is empty."""
    if tensor.datatype == BYTES:
        elements = [element.encode() if isinstance(element, str) else element or b"" for element in tensor.data]
        return b"".join(struct.pack("<I", len(element)) + element for element in elements)
    values = (math.nan if value is None else value for value in tensor.data)
    return struct.pack(f"<{len(tensor.data)}{FORMATS[tensor.datatype]}", *values)


def from_raw(datatype: str, raw: bytes) -> list[Any]:
    """Return the elements that are there in binary form; raise ValueError where the bytes are no such elements."""
    if datatype == BYTES:
        return list(texts(raw))
    width = struct.calcsize(FORMATS[datatype])
    if len(raw) % width:
        raise ValueError(f"{len(raw)} bytes are no {datatype}")
    return list(struct.unpack(f"<{len(raw) // width}{FORMATS[datatype]}", raw))


def texts(raw: bytes) -> Iterable[str]:
    """Yield the elements of BYTES, each of which follows its length."""
    place = 0
    while place < len(raw):
        start = place + 4
        place = start + int.from_bytes(raw[place:start], "little")
        if place > len(raw):
            raise ValueError("an element ends after the tensor")
        yield raw[start:place].decode()


def json_body(tensors: Iterable[Tensor]) -> bytes:
    """Return the body of a request in JSON."""
    return json.dumps({"inputs": list(map(to_json, tensors))}).encode()


def binary_body(tensors: Iterable[Tensor]) -> tuple[bytes, int]:
    """Return the body of a request whose inputs and outputs are binary, and how many bytes of it are JSON."""
    parts = []
    inputs = []
    for tensor in tensors:
        parts.append(to_raw(tensor))
        inputs.append({**head(tensor), "parameters": {"binary_data_size": len(parts[-1])}})
    text = json.dumps({"parameters": {"binary_data_output": True}, "inputs": inputs}).encode()
    return b"".join((text, *parts)), len(text)


def json_bytes_of(headers: Mapping[str, str]) -> int | None:
    """Return how many bytes of an answer's body are JSON, None where all of it is."""
    length = headers.get(HEADER_LENGTH)
    return None if length is None else int(length)


def read_body(body: bytes, json_bytes: int | None) -> dict[str, Tensor]:
    """Return the outputs in the body of an answer by name; all of it is JSON where `json_bytes` is None.

    Raises ValueError, KeyError or TypeError for what is no answer.
    """
    answer = json.loads(body[:json_bytes])
    rest = b"" if json_bytes is None else body[json_bytes:]
    outputs = {}
    for output in answer["outputs"]:
        name, datatype, shape = output["name"], output["datatype"], tuple(output["shape"])
        size = parameters(output).get("binary_data_size")
        data = output["data"] if size is None else from_raw(datatype, rest[:size])
        rest = rest[size or 0 :]
        outputs[name] = checked(Tensor(name, datatype, shape, data))
    return outputs


def parameters(output: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the parameters of an output."""
    found: Mapping[str, Any] = output.get("parameters") or {}
    return found


def checked(tensor: Tensor) -> Tensor:
    """Return the tensor; raise ValueError unless it has as many elements as its shape says."""
    if len(tensor.data) != math.prod(tensor.shape):
        raise ValueError(f"{tensor.name} of shape {list(tensor.shape)} has {len(tensor.data)} elements")
    return tensor
