"""What is known of messages whose bytes, but for the raw contents, came before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.breast_cancer import FEATURES, BreastCancer
from models.sentiment import Sentiment
from serving.grpc.conversion import request_of
from serving.grpc.forms import MAX_FORMS, Forms, request_of_form
from serving.grpc.wire import parse
from serving.oip.requests import InferRequest
from tests.support.grpc_clients import InferRequest as Message
from tests.support.grpc_clients import request_for


def rows(first: float, count: int = 2) -> Any:
    """Return the message of some tumours."""
    columns = {name: np.arange(count) + first + place for place, name in enumerate(FEATURES)}
    return request_for("breast_cancer", columns, raw=True)


TEXTS = request_for("sentiment", {"text": ["a", "b"]}, raw=True)


def read(message: bytes, model: type[Any] = BreastCancer) -> InferRequest:
    """Return the request in a message, read without forms."""
    parsed = parse(Message, message)
    return request_of(parsed, parsed.raw_input_contents, model)


def remembered(message: Any, model: type[Any] = BreastCancer) -> Forms:
    """Return forms after a message."""
    forms = Forms()
    text = message.SerializeToString()
    forms.remember(text, parse(Message, text), read(text, model), model)
    return forms


def same(first: InferRequest, second: InferRequest) -> bool:
    """Return whether two requests are the same."""
    tensors = zip(first.inputs, second.inputs, strict=True)
    equal = all(
        a.description == b.description and np.array_equal(a.values, b.values) and a.parameters == b.parameters
        for a, b in tensors
    )
    return equal and (first.outputs, first.parameters, first.id) == (second.outputs, second.parameters, second.id)


def test_other_numbers_in_a_known_form_are_read_as_without_it() -> None:
    first, second = rows(1.0), rows(100.0)
    for message in (first, second):
        message.outputs.add(name="label")
        message.parameters["timeout"].int64_param = 10**9
    text = second.SerializeToString()
    form = remembered(first).find(text)
    assert form is not None
    assert same(request_of_form(form, text), read(text))


def test_a_message_of_another_form_is_not_taken_for_it() -> None:
    forms = remembered(rows(1.0))
    renamed = rows(1.0)
    renamed.inputs[0].name = renamed.inputs[0].name.upper()
    swapped = rows(1.0)
    swapped.inputs[0].datatype = "INT64"
    cut = rows(1.0).SerializeToString()
    shifted = cut[:-20] + bytes([cut[-20] ^ 1]) + cut[-19:]
    lengths = rows(1.0)
    lengths.raw_input_contents[0] += bytes(8)
    lengths.raw_input_contents[1] = lengths.raw_input_contents[1][:-8]
    for message in (renamed, swapped, rows(1.0, 3), lengths):
        assert forms.find(message.SerializeToString()) is None
    assert forms.find(shifted[:-1]) is None


@pytest.mark.parametrize("message", [rows(1.0), TEXTS], ids=["an id", "texts"])
def test_messages_that_differ_in_more_are_not_remembered(message: Any) -> None:
    message.id = "42" if message is not TEXTS else ""
    assert not remembered(message, BreastCancer if message.id else Sentiment).known


def test_messages_whose_contents_are_not_at_the_end_are_not_remembered() -> None:
    name, text = b"\x0a\x0dbreast_cancer", rows(1.0).SerializeToString()
    start = text.index(b"\x3a\x10")  # of the contents
    moved = name + text[start:] + text[len(name) : start]
    forms = Forms()
    forms.remember(moved, parse(Message, moved), read(moved), BreastCancer)
    assert not forms.known


def test_only_so_many_forms_are_remembered() -> None:
    forms = Forms()
    for number in range(MAX_FORMS + 10):
        message = rows(1.0)
        message.parameters["a" * number].bool_param = True
        text = message.SerializeToString()
        forms.remember(text, parse(Message, text), read(text), BreastCancer)
    assert len(forms.known) <= MAX_FORMS
