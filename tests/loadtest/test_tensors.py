"""Tensors are written and read as the Open Inference Protocol has them."""

from __future__ import annotations

import json
import math
import struct

import pytest

from loadtest.tensors import Tensor, binary_body, from_raw, json_body, read_body, to_json, to_raw

TEXTS = Tensor("text", "BYTES", (3,), ["dull", "退屈", None])
NUMBERS = Tensor("x0", "FP64", (2,), [1.5, None])


def test_elements_are_little_endian_and_texts_follow_their_lengths() -> None:
    assert to_raw(Tensor("n", "INT64", (2,), [1, -2])) == struct.pack("<2q", 1, -2)
    assert to_raw(TEXTS) == b"\x04\x00\x00\x00dull\x06\x00\x00\x00\xe9\x80\x80\xe5\xb1\x88\x00\x00\x00\x00"


def test_what_is_written_is_read_again() -> None:
    assert from_raw("BYTES", to_raw(TEXTS)) == ["dull", "退屈", ""]
    assert from_raw("BOOL", to_raw(Tensor("b", "BOOL", (2,), [True, False]))) == [True, False]


def test_a_missing_number_is_null_in_json_and_nan_in_binary() -> None:
    assert to_json(NUMBERS)["data"] == [1.5, None]
    first, second = from_raw("FP64", to_raw(NUMBERS))
    assert first == 1.5
    assert math.isnan(second)


def test_files_are_in_base64_in_json() -> None:
    (tensor,) = json.loads(json_body([Tensor("image", "BYTES", (1,), [b"hi"])]))["inputs"]
    assert (tensor["data"], tensor["parameters"]) == (["aGk="], {"content_type": "base64"})


def test_binary_tensors_stand_behind_the_json_that_describes_them() -> None:
    body, json_bytes = binary_body([TEXTS, NUMBERS])
    document = json.loads(body[:json_bytes])
    assert body[json_bytes:] == to_raw(TEXTS) + to_raw(NUMBERS)
    assert [tensor["parameters"]["binary_data_size"] for tensor in document["inputs"]] == [22, 16]
    assert document["parameters"] == {"binary_data_output": True}


def test_an_answer_may_have_outputs_of_either_form() -> None:
    raw = struct.pack("<2d", 0.5, 0.25)
    outputs = [
        {"name": "score", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": len(raw)}},
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
    ]
    head = json.dumps({"outputs": outputs}).encode()
    found = read_body(head + raw, len(head))
    assert {name: tensor.data for name, tensor in found.items()} == {"score": [0.5, 0.25], "label": ["a", "b"]}


@pytest.mark.parametrize(
    ("datatype", "raw", "fault"),
    [
        ("FP64", bytes(7), "7 bytes are no FP64"),
        ("BYTES", b"\x05\x00\x00\x00abc", "ends after the tensor"),
        ("BYTES", b"\x01\x00", "ends after the tensor"),
    ],
)
def test_elements_that_are_cut_off_are_no_tensor(datatype: str, raw: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        from_raw(datatype, raw)


def test_fewer_elements_than_the_shape_says_are_no_tensor() -> None:
    body = json.dumps({"outputs": [{"name": "y", "datatype": "FP64", "shape": [2], "data": [1.0]}]}).encode()
    with pytest.raises(ValueError, match=r"y of shape \[2\] has 1 elements"):
        read_body(body, None)
