"""The encoding of outputs in Redis, and the rejection of values that are none."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from models.model import Array
from serving.caching.redis_tier import (
    COMMAND_BYTES,
    DTYPES,
    HEADER,
    MAX_DIMENSIONS,
    VERSION,
    RedisCache,
    decode,
    encode,
)
from tests.support.redis_caches import (
    errors,
    kept,
    signed,
)
from tests.support.redis_servers import RedisServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("dtype", sorted(name.decode() for name in DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 3), (2, 0, 3), (1,) * MAX_DIMENSIONS])
def test_an_output_comes_back_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    output = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    found = decode(encode(output, 1234.5))
    assert found is not None
    assert (found[0].dtype, found[0].shape, found[1]) == (output.dtype, shape, 1234.5)
    assert np.array_equal(found[0], output)


def test_values_that_are_no_numbers_come_back() -> None:
    output = np.array([np.nan, np.inf, -np.inf, -0.0], dtype=np.float32)
    found = decode(encode(output, 0))
    assert found is not None
    assert found[0].tobytes() == output.tobytes()


@pytest.mark.parametrize(
    "output", [np.arange(6, dtype=">f4"), np.arange(12.0).reshape(3, 4).T[::2], np.asfortranarray(np.eye(3))]
)
def test_the_layout_in_memory_does_not_matter(output: Array) -> None:
    found = decode(encode(output, 0))
    assert found is not None
    assert np.array_equal(found[0], output)


VALUE = encode(np.arange(6, dtype=np.float32).reshape(2, 3), 1234.5)


@pytest.mark.parametrize("length", range(len(VALUE)))
def test_a_truncated_value_is_a_miss(length: int) -> None:
    assert decode(VALUE[:length]) is None


@pytest.mark.parametrize("place", range(len(VALUE)))
def test_a_damaged_value_is_a_miss(place: int) -> None:
    assert decode(VALUE[:place] + bytes([VALUE[place] ^ 0x10]) + VALUE[place + 1 :]) is None


@pytest.mark.parametrize("seed", range(100))
def test_random_bytes_are_a_miss(seed: int) -> None:
    rng = random.Random(seed)
    junk = rng.randbytes(rng.randrange(100))
    assert decode(junk) is None
    assert decode(VERSION + junk) is None
    assert decode(signed(VERSION + junk)) is None


@pytest.mark.parametrize("value", [None, "text", 1, True, [VALUE], b"", b"OK"])
def test_what_is_no_value_is_a_miss(value: object) -> None:
    assert decode(value) is None


def forged(
    version: bytes = VERSION, dtype: bytes = b"<f4", shape: tuple[int, ...] = (2,), body: bytes = b"8bytes.."
) -> bytes:
    return signed(HEADER.pack(version, dtype, len(shape), 0) + struct.pack(f"<{len(shape)}I", *shape) + body)


def test_a_forged_value_is_read() -> None:
    assert decode(forged()) is not None  # or the next test would prove nothing


@pytest.mark.parametrize(
    "value",
    [
        forged(version=b"tfn0"),
        forged(version=b"tfn2"),
        forged(dtype=b"|O8"),
        forged(dtype=b"<U2"),
        forged(dtype=b"\xff\xff\xff"),
        forged(shape=(3,)),
        forged(shape=(1,)),
        forged(shape=()),
        forged(shape=(2**32 - 1,) * MAX_DIMENSIONS),
        forged(shape=(1,) * MAX_DIMENSIONS + (2,)),
        forged(shape=(0,)),
        forged(shape=(1,), body=b"short"[:3]),
    ],
    ids=str,
)
def test_a_value_of_another_version_or_form_is_a_miss(value: bytes) -> None:
    assert decode(value) is None


@pytest.mark.parametrize(
    "output",
    [
        *(np.zeros(2, dtype) for dtype in ("c8", "U3", "S1", "O", "M8[s]", "u2", "u8", "g", "V4")),
        np.zeros((1,) * (MAX_DIMENSIONS + 1), np.float32),
        np.zeros((2**32, 0), np.float32),
        np.zeros(COMMAND_BYTES // 4, np.float32),
        np.zeros(2**24, np.uint8),
    ],
    ids=lambda output: f"{output.dtype}{output.shape}",
)
async def test_what_would_not_be_read_is_not_written(
    redis_server: RedisServer, cache: RedisCache, output: Array
) -> None:
    with pytest.raises(ValueError, match="an array of "):
        encode(output, 0)
    before = errors("unsupported")
    assert not await kept(cache, b"other", output)
    assert errors("unsupported") == before + 1
    assert await kept(cache)


def test_the_largest_value_is_read() -> None:
    largest = np.ones(COMMAND_BYTES - HEADER.size - 8, np.uint8)
    found = decode(encode(largest, 0))
    assert found is not None
    assert np.array_equal(found[0], largest)
