"""Messages that are no good: each gets a code, and the server goes on, its memory as it was."""

from __future__ import annotations

import gzip
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode

from serving.grpc.wire import outline
from tests.support.grpc_clients import Client, InferRequest, outputs, request_for

pytestmark = pytest.mark.anyio
MEBIBYTE = 2**20


def number(value: int) -> bytes:
    """Return a number of variable width."""
    digits = b""
    while value > 127:
        digits += bytes([value & 127 | 128])
        value >>= 7
    return digits + bytes([value])


def field(place: int, content: bytes) -> bytes:
    """Return a field of bytes."""
    return number(place << 3 | 2) + number(len(content)) + content


NAME = field(1, b"sentiment")
GOOD = request_for("sentiment", {"text": ["fine"]}).SerializeToString()
PACKED = field(5, field(5, field(3, b"\1" * 4 * MEBIBYTE)))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (GOOD[:-1], StatusCode.INVALID_ARGUMENT),
        (GOOD[:20], StatusCode.INVALID_ARGUMENT),
        (b"\0", StatusCode.INVALID_ARGUMENT),
        (b"\xff" * 11, StatusCode.INVALID_ARGUMENT),
        (field(1, b"\xff\xfe"), StatusCode.INVALID_ARGUMENT),
        (number(1 << 3) + b"\1", StatusCode.NOT_FOUND),
        (NAME + field(5, b"\x0f"), StatusCode.INVALID_ARGUMENT),
        (NAME + number(5 << 3 | 2) + number(10**9), StatusCode.INVALID_ARGUMENT),
        (NAME + number(9 << 3 | 3) * 200, StatusCode.INVALID_ARGUMENT),
        (NAME + field(5, b"") * 4_000, StatusCode.INVALID_ARGUMENT),
        (NAME + field(5, b"") * MEBIBYTE, StatusCode.RESOURCE_EXHAUSTED),
        (NAME + field(7, b"") * MEBIBYTE, StatusCode.RESOURCE_EXHAUSTED),
        (NAME + field(5, field(5, field(8, b"") * MEBIBYTE)), StatusCode.RESOURCE_EXHAUSTED),
        (NAME + PACKED, StatusCode.RESOURCE_EXHAUSTED),
        (NAME + field(5, field(3, b"\1" * 4 * MEBIBYTE)), StatusCode.RESOURCE_EXHAUSTED),
        (NAME + bytes(2 * MEBIBYTE), StatusCode.INVALID_ARGUMENT),
        (field(3, b"x" * 2 * MEBIBYTE) + NAME, StatusCode.INVALID_ARGUMENT),
        (NAME + field(5, b"\2")[:-1] + b"\xff" * 2 * MEBIBYTE, StatusCode.INVALID_ARGUMENT),
        (b"\x1f\x8b" + bytes(100), StatusCode.INVALID_ARGUMENT),
        (gzip.compress(GOOD)[:-9], StatusCode.INVALID_ARGUMENT),
        (gzip.compress(bytes(70 * MEBIBYTE)), StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=str,
)
async def test_a_hostile_message_gets_a_code(client: Client, message: bytes, code: StatusCode) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.bytes("ModelInfer", message)
    assert caught.value.code() is code, caught.value.details()
    assert outputs(await client.bytes("ModelInfer", GOOD))["label"] == ["POSITIVE"]


@pytest.mark.parametrize("method", ["ServerLive", "ModelMetadata", "RepositoryIndex"])
async def test_a_large_message_for_a_small_method_is_refused(client: Client, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.RESOURCE_EXHAUSTED.name):
        await client.bytes(method, field(1, bytes(MEBIBYTE)))
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.INVALID_ARGUMENT.name):
        await client.bytes(method, b"\xff")


async def test_a_message_over_the_largest_size_is_refused(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.RESOURCE_EXHAUSTED.name):
        await client.bytes("ModelInfer", bytes(65 * MEBIBYTE))


async def test_a_message_over_the_size_of_its_model_is_refused(client: Client, http: httpx.Client) -> None:
    paths = http.get("/docs.json").json()["paths"]
    size = paths["/v2/models/breast_cancer/infer"]["post"]["x-max-body-bytes"]
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.RESOURCE_EXHAUSTED.name) as caught:
        await client.bytes("ModelInfer", field(1, b"breast_cancer") + field(3, bytes(size)))
    assert f"{size:,} bytes" in caught.value.details()


async def test_a_call_without_a_message_is_refused(client: Client) -> None:
    call = client.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(timeout=60)
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.INVALID_ARGUMENT.name):
        await call


def test_a_large_message_is_cut_into_its_parts() -> None:
    request = request_for("image", {"image": [b"a", b"b" * 300]}, raw=True)
    parts = outline(request.SerializeToString())
    assert (parts.model, [bytes(raw) for raw in parts.raw]) == ("image", list(request.raw_input_contents))
    found: Any = InferRequest.FromString(parts.head)
    del request.raw_input_contents[:]
    assert found == request
