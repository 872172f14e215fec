"""Messages on the wire: parsed, and read before that as far as it takes to bound what parsing them costs.

Parsed, a message takes far more memory than its bytes where these are many small fields: two bytes may be a tensor.
Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from serving.grpc.held import too_large
from serving.oip.errors import ProtocolError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
MAX_NAME_BYTES = 100
# The most fields of a message that are inputs, outputs, parameters and raw contents.
MAX_PARTS = 10_000
# Numbers of fields, as in the table of `messages.py`.
MODEL_NAME, INPUTS, RAW = 1, 5, 7
SHAPE, CONTENTS, BYTES_CONTENTS = 3, 5, 8
# Bytes of an element, where all have as many: fp32_contents and fp64_contents.
WIDTHS = {6: 4, 7: 8}


def parse(kind: Any, message: bytes) -> Any:
    """Return a message of a class; raise ProtocolError for bytes that are none."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise broken(kind.DESCRIPTOR.name) from None


class Outline(NamedTuple):
    """A request for inference in its parts: the message without the raw contents, and these, which share its memory."""

    head: bytes
    raw: list[memoryview]
    inputs: list[memoryview]
    model: str


def outline(message: bytes) -> Outline:
    """Cut a request for inference into its parts; raise ProtocolError for what is none, CallError for too many."""
    data = memoryview(message)
    head = bytearray()
    raw, inputs = [], []
    model = b""
    copied = 0  # up to where the message has been copied into the head
    for count, (number, kind, tag, start, end) in enumerate(fields(data)):
        if count == MAX_PARTS:
            raise too_large(MAX_PARTS, "parts")
        if kind != LENGTH:
            continue
        if number == MODEL_NAME:
            model = bytes(data[start:end][:MAX_NAME_BYTES])
        elif number == INPUTS:
            inputs.append(data[start:end])
        elif number == RAW:
            raw.append(data[start:end])
            head += data[copied:tag]
            copied = end
    head += data[copied:]
    return Outline(bytes(head), raw, inputs, model.decode(errors="replace"))


def check_values(inputs: Iterable[memoryview], most: int) -> None:
    """Raise CallError where input tensors together have more than `most` fields and elements."""
    count = 0
    for data in inputs:
        for number, kind, _, start, end in fields(data):
            count += 1
            if kind == LENGTH and number == SHAPE:
                count += numbers(data[start:end])
            elif kind == LENGTH and number == CONTENTS:
                count = count_contents(data[start:end], count, most)
            if count > most:
                raise too_large(most, "fields and elements")


def count_contents(data: memoryview, count: int, most: int) -> int:
    """Add the elements of contents to a count, packed or each in a field; raise CallError where that exceeds `most`."""
    for number, kind, _, start, end in fields(data):
        count += 1
        if kind == LENGTH and number != BYTES_CONTENTS:
            width = WIDTHS.get(number)
            count += (end - start) // width if width else numbers(data[start:end])
        if count > most:
            raise too_large(most, "fields and elements")
    return count


def numbers(packed: memoryview) -> int:
    """Return how many numbers of variable width are packed into a field."""
    return int(np.count_nonzero(np.frombuffer(packed, np.uint8) < 0x80))


def fields(data: memoryview) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield the fields of a message: number, wire type, where the tag begins, where the content begins and ends.

    Raises ProtocolError where it is no message.
    """
    place, size = 0, len(data)
    while place < size:
        tag = place
        key, place = varint(data, place)
        kind = key & 7
        start = place
        if kind == LENGTH:
            length, start = varint(data, place)
            place = start + length
        elif kind == VARINT:
            place = varint(data, place)[1]
        elif kind in (FIXED64, FIXED32):
            place += 8 if kind == FIXED64 else 4
        else:  # groups, which the protocol does not have
            raise broken()
        if place > size or not key >> 3:
            raise broken()
        yield key >> 3, kind, tag, start, place


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number of variable width at a place, and the place after it."""
    if place < len(data) and data[place] < 0x80:  # most are
        return data[place], place + 1
    value = 0
    for index, byte in enumerate(data[place : place + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, place + index + 1
    raise broken()


def broken(name: str = "ModelInferRequest") -> ProtocolError:
    """Return the error of bytes that are not the message that they are to be."""
    return ProtocolError(f"the message is no {name}: it cannot be read")
