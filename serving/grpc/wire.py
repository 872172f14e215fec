"""The wire format of requests for inference, read as far as it takes to bound what parsing them costs.

Parsed, a message takes far more memory than its bytes where these are many small fields: two bytes may be a tensor.
Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from serving.oip.errors import ProtocolError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10
# Numbers of fields, as in the table of `messages.py`.
MODEL_NAME, INPUTS, RAW = 1, 5, 7
SHAPE, CONTENTS, BYTES_CONTENTS = 3, 5, 8
# Bytes of an element, where all have as many: fp32_contents and fp64_contents.
WIDTHS = {6: 4, 7: 8}


class Field(NamedTuple):
    """A field of a message: its number, its wire type, where its tag begins, where its content begins and ends."""

    number: int
    kind: int
    tag: int
    start: int
    end: int


class Outline(NamedTuple):
    """A request for inference in its parts: the message without the raw contents, and these; they share its memory."""

    model: str
    head: bytes
    raw: list[memoryview]


def outline(message: bytes, max_values: int) -> Outline:
    """Cut a request for inference into its parts.

    Raises ProtocolError for what is no message, and ValuesError where the fields and elements, without those of the
    raw contents, are more than `max_values`.
    """
    data = memoryview(message)
    model, head, raw = b"", bytearray(), []
    budget = Budget(max_values)
    kept = 0  # up to where the message has been copied into the head
    for field in fields(data):
        budget.take(1)
        content = data[field.start : field.end]
        if field.number == MODEL_NAME and field.kind == LENGTH:
            model = bytes(content)
        elif field.number == INPUTS and field.kind == LENGTH:
            count_input(content, budget)
        elif field.number == RAW and field.kind == LENGTH:
            raw.append(content)
            head += data[kept : field.tag]
            kept = field.end
    head += data[kept:]
    return Outline(model.decode(errors="replace"), bytes(head), raw)


class ValuesError(Exception):
    """A message has more fields and elements than it may have."""


class Budget:
    """How many more fields and elements a message may have."""

    def __init__(self, values: int) -> None:
        self.values = values

    def take(self, count: int) -> None:
        """Count fields or elements; raise ValuesError where they are too many."""
        self.values -= count
        if self.values < 0:
            raise ValuesError


def count_input(data: memoryview, budget: Budget) -> None:
    """Count the fields of an input tensor, and the elements of its shape and contents."""
    for field in fields(data):
        budget.take(1)
        if field.kind != LENGTH:
            continue
        content = data[field.start : field.end]
        if field.number == SHAPE:
            budget.take(numbers(content))
        elif field.number == CONTENTS:
            count_contents(content, budget)


def count_contents(data: memoryview, budget: Budget) -> None:
    """Count the elements of contents, packed or each in a field of its own."""
    for field in fields(data):
        budget.take(1)
        if field.kind == LENGTH and field.number != BYTES_CONTENTS:
            content = data[field.start : field.end]
            width = WIDTHS.get(field.number)
            budget.take(len(content) // width if width else numbers(content))


def numbers(packed: memoryview) -> int:
    """Return how many numbers of variable width are packed into a field."""
    return int(np.count_nonzero(np.frombuffer(packed, np.uint8) < 0x80))


def fields(data: memoryview) -> Iterator[Field]:
    """Yield the fields of a message; raise ProtocolError where it is none."""
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
        if place > size:
            raise broken()
        yield Field(key >> 3, kind, tag, start, place)


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the number of variable width at a place, and the place after it."""
    value = 0
    for index, byte in enumerate(data[place : place + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, place + index + 1
    raise broken()


def broken() -> ProtocolError:
    """Return the error of a message that cannot be read."""
    return ProtocolError("the message is no ModelInferRequest: it cannot be read")
