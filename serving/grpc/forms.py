"""Requests of a form that came before: the same bytes, but for the raw contents at the end.

Clients send the same message again and again with other numbers in it. What was read and checked once of all but these
is not read again, which takes as long as the inference of a small model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError

from models.model import Model
from serving.grpc.messages import request_class
from serving.oip.requests import InferRequest, Parameters, RequestedOutput
from serving.oip.tensors import DTYPES, Description, Tensor

# The tag of raw_input_contents, which has the number 7 and a length.
TAG = bytes([7 << 3 | 2])
# Longer heads are not worth it; beyond so many forms all are forgotten.
MAX_HEAD_BYTES, MAX_FORMS = 4_096, 256
Message = request_class("ModelInfer")


class Contents(NamedTuple):
    """An input whose raw contents begin at `start`; `tag` is where their tag and length begin, which are `prefix`."""

    tag: int
    prefix: bytes
    start: int
    elements: int
    dtype: np.dtype[Any]
    description: Description
    parameters: Parameters


class Form(NamedTuple):
    """A message up to its raw contents, what it says, and where the contents are."""

    head: bytes
    model_name: str
    model_version: str
    model: type[Model[Any]]
    inputs: list[Contents]
    outputs: Sequence[RequestedOutput]
    parameters: Parameters


class Forms:
    """The forms of messages, by the number of their bytes."""

    def __init__(self) -> None:
        self.known: dict[int, Form] = {}

    def find(self, message: bytes) -> Form | None:
        """Return the form that a message has, where it came before."""
        form = self.known.get(len(message))
        if form is None or not message.startswith(form.head):
            return None
        return form if all(message.startswith(entry.prefix, entry.tag) for entry in form.inputs) else None

    def remember(self, message: bytes, parsed: Any, request: InferRequest, model: type[Model[Any]]) -> None:
        """Remember the form of a message that has been read, where it has one: numbers of fixed width, and no id."""
        if parsed.id or not all(tensor.datatype in DTYPES and tensor.datatype != "BOOL" for tensor in request.inputs):
            return
        inputs = []
        end = len(message)
        for tensor in reversed(request.inputs):
            dtype, elements = DTYPES[tensor.datatype], len(tensor.values)
            start = end - elements * dtype.itemsize
            prefix = TAG + varint(end - start)
            end = start - len(prefix)
            inputs.append(Contents(end, prefix, start, elements, dtype, tensor.description, tensor.parameters))
        head = message[: max(end, 0)]
        if not 0 < len(head) <= MAX_HEAD_BYTES or not is_without_contents(head):
            return
        if len(self.known) >= MAX_FORMS:
            self.known.clear()
        names = (parsed.model_name, parsed.model_version)
        self.known[len(message)] = Form(head, *names, model, inputs[::-1], request.outputs, request.parameters)


def request_of_form(form: Form, message: bytes) -> InferRequest:
    """Return the request in a message of a form."""
    inputs = [
        Tensor(*entry.description, np.frombuffer(message, entry.dtype, entry.elements, entry.start), entry.parameters)
        for entry in form.inputs
    ]
    return InferRequest(inputs, form.outputs, parameters=form.parameters)


def is_without_contents(head: bytes) -> bool:
    """Return whether the first part of a message is a message of its own, without raw contents."""
    try:
        return not Message.FromString(head).raw_input_contents
    except DecodeError:
        return False


def varint(number: int) -> bytes:
    """Return a number in variable width."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
