"""The binary form of tensors."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from serving.oip.errors import ProtocolError
from serving.oip.tensors import DTYPES, Tensor, from_raw, to_raw


@pytest.mark.parametrize("datatype", DTYPES)
def test_numbers_come_back_as_they_were(datatype: str) -> None:
    values = np.array([0, 1, 1, 0, 1, 0]).astype(DTYPES[datatype])
    raw = to_raw(Tensor("x", datatype, (3, 2), values))
    assert len(raw) == 6 * DTYPES[datatype].itemsize
    found = from_raw("x", datatype, (3, 2), raw)
    assert (found.dtype, found.tolist()) == (DTYPES[datatype], values.tolist())


def test_they_are_little_endian() -> None:
    values = np.array([1, -2], dtype=">i4")
    assert to_raw(Tensor("x", "INT32", (2,), values)) == b"\1\0\0\0\xfe\xff\xff\xff"


def test_bf16_is_the_upper_half_of_an_fp32() -> None:
    upper = np.array([1.0, -2.5, 3e38], dtype="<f4").tobytes()
    raw = b"".join(upper[place + 2 : place + 4] for place in range(0, len(upper), 4))
    found = from_raw("x", "BF16", (3,), raw)
    assert found.dtype == np.float32
    assert found[:2].tolist() == [1.0, -2.5]


def test_any_byte_but_zero_is_true() -> None:
    assert from_raw("x", "BOOL", (3,), b"\0\1\xff").tolist() == [False, True, True]


def test_bytes_have_their_length_in_front() -> None:
    values = np.array(["é", b"\0\xff", None, ""], dtype=np.object_)
    raw = to_raw(Tensor("x", "BYTES", (4,), values))
    assert raw == b"\2\0\0\0\xc3\xa9\2\0\0\0\0\xff\0\0\0\0\0\0\0\0"
    assert from_raw("x", "BYTES", (4, 1), raw).tolist() == [b"\xc3\xa9", b"\0\xff", b"", b""]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "told"),
    [
        ("FP32", (2,), b"1234", "x has 4 bytes; FP32 of shape [2] takes 8"),
        ("FP32", (1,), b"12345", "x has 5 bytes; FP32 of shape [1] takes 4"),
        ("FP64", (10**9,), b"1" * 100, "x has 100 bytes; FP64 of shape [1000000000] takes 8,000,000,000"),
        ("INT8", (2**40, 2**40), b"", "takes 1,208,925,819,614,629,174,706,176"),
        ("BYTES", (10**9,), b"1" * 100, "fewer than the lengths of 1,000,000,000 elements take"),
        ("BYTES", (1,), struct.pack("<I", 2**32 - 1) + b"a", "x ends before its element 0 does"),
        ("BYTES", (2,), struct.pack("<I", 3) + b"abcd\0\0", "x ends before its element 1 does"),
        ("BYTES", (1,), struct.pack("<I", 1) + b"ab", "x has 1 bytes after its last element"),
        ("BYTES", (0,), b"a", "x has 1 bytes after its last element"),
        ("FP32", (-1,), b"", "the shape of x must be a list of one or two sizes, each from 0 to 2^63 - 1"),
        ("FP32", (-1, -1), b"1234", "each from 0"),
        ("FP32", (2**63,), b"", "each from 0 to 2^63 - 1"),
        ("FP32", (10**4299, 10**4299), b"", "each from 0 to 2^63 - 1"),
        ("FP32", (), b"1234", "a list of one or two sizes"),
        ("FP32", (1, 1, 1), b"1234", "a list of one or two sizes"),
        ("STRING", (1,), b"1234", "the datatype of x is 'STRING'; it must be one of BOOL, UINT8"),
    ],
)
def test_what_cannot_be_is_refused(datatype: str, shape: tuple[int, ...], raw: bytes, told: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        from_raw("x", datatype, shape, raw)
    assert told in str(refused.value)
