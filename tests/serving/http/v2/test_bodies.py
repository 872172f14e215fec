"""Bodies of the protocol whose parts are read in a way of their own."""

from __future__ import annotations

import json

import pytest

from models.breast_cancer import BreastCancer
from models.model import LARGE_BYTES
from models.sentiment import Sentiment
from serving.http.v2.bodies import PAIR_BYTES, PIECE_BYTES, read_request
from serving.oip.errors import ProtocolError


def element(text: bytes) -> object:
    """Return the element of a tensor that has only this text, as it stands in JSON."""
    body = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["%b"]}]}' % text
    return read_request(body, None, Sentiment).inputs[0].values[0]


@pytest.mark.parametrize("unit", [rb"\ud83c\udf88", rb"\u00fc\\", rb"\\\"\n", "ü🎈x".encode(), rb"\\"])
def test_a_long_text_is_the_same_wherever_it_is_cut(unit: bytes) -> None:
    for shift in range(PAIR_BYTES):
        text = b"a" * shift + unit * (PIECE_BYTES // len(unit) + 1)
        assert element(text) == json.loads(b'"%b"' % text)


def test_a_long_text_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the data of text must be a list of BYTES"):
        element(b"a" * PIECE_BYTES + b"\xff")


def test_a_long_string_among_numbers_is_refused_before_it_is_decoded() -> None:
    body = b'{"inputs":[{"name":"area_se","shape":[1],"datatype":"FP64","data":[ "%b"]}]}' % (b"1" * LARGE_BYTES)
    with pytest.raises(ProtocolError, match="must be a list of FP64: its first element is a string"):
        read_request(body, None, BreastCancer)
