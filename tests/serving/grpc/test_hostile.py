"""Messages that are no good: each gets a code, and the server goes on, its memory as it was."""

from __future__ import annotations

import gzip
from typing import Any

import grpc
import httpx
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.grpc.wire import outline
from tests.support import http2
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
MANY_RAW = InferRequest(model_name="sentiment", raw_input_contents=[bytes(16 * MEBIBYTE)])
MANY_RAW.inputs.add(name="text", datatype="BYTES", shape=[1, 4 * MEBIBYTE])


BAD, TOO_MUCH = StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED
HOSTILE: dict[str, tuple[bytes, StatusCode]] = {
    "a message cut short": (GOOD[:-1], BAD),
    "a message cut in the middle": (GOOD[:20], BAD),
    "field 0": (b"\0", BAD),
    "a number without an end": (b"\xff" * 11, BAD),
    "text that is not UTF-8": (field(1, b"\xff\xfe"), BAD),
    "a number for a text": (number(1 << 3) + b"\1", StatusCode.NOT_FOUND),
    "an input that is no message": (NAME + field(5, b"\x0f"), BAD),
    "a length over that of the message": (NAME + number(5 << 3 | 2) + number(10**9), BAD),
    "groups in groups": (NAME + number(9 << 3 | 3) * 200, BAD),
    "many empty inputs": (NAME + field(5, b"") * 4_000, BAD),
    "a million empty inputs": (NAME + field(5, b"") * MEBIBYTE, TOO_MUCH),
    "a million empty raw contents": (NAME + field(7, b"") * MEBIBYTE, TOO_MUCH),
    "a million empty elements": (NAME + field(5, field(5, field(8, b"") * MEBIBYTE)), TOO_MUCH),
    "millions of packed numbers": (NAME + field(5, field(5, field(3, b"\1" * 4 * MEBIBYTE))), TOO_MUCH),
    "a shape of millions": (NAME + field(5, field(3, b"\1" * 4 * MEBIBYTE)), TOO_MUCH),
    "zeros": (NAME + bytes(2 * MEBIBYTE), BAD),
    "millions of raw elements in one row": (MANY_RAW.SerializeToString(), TOO_MUCH),
    "a long id": (field(3, b"x" * 2 * MEBIBYTE) + NAME, BAD),
    "a long tail": (NAME + field(5, b"\2")[:-1] + b"\xff" * 2 * MEBIBYTE, BAD),
    "gzip of nothing": (b"\x1f\x8b" + bytes(100), BAD),
    "gzip cut short": (gzip.compress(GOOD)[:-9], BAD),
    "gzip with more behind it": (gzip.compress(GOOD) + b"more", BAD),
    "gzip of much": (gzip.compress(bytes(70 * MEBIBYTE)), TOO_MUCH),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_message_gets_a_code(client: Client, name: str) -> None:
    message, code = HOSTILE[name]
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


async def test_who_watches_health_without_reading_holds_up_nobody(client: Client, grpc_port: int) -> None:
    request = health_pb2.HealthCheckRequest()
    async with http2.unreading_client(grpc_port) as unreading:
        watch = unreading.begin("/grpc.health.v1.Health/Watch", b"")
        await unreading.receive(http2.HEADERS, watch)
        answer = await health_pb2_grpc.HealthStub(client.channel).Check(request, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


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
