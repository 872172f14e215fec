"""Reading of request bodies, with an app that echoes them."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message

from serving.http.body import MAX_MEMBERS, PROGRESS_BYTES, START_BYTES, BytesInFlight, RequestBody
from serving.http.endpoints import Accepted
from serving.http.errors import ClientGoneError, RefusedError
from tests.support.edge import edge_around, public_guards

MAX_BYTES = 4 * START_BYTES
TIMEOUT_SECONDS = 60.0


async def echo(request: Request) -> Response:
    return PlainTextResponse(await request.body())


@pytest.fixture
def in_flight() -> BytesInFlight:
    return BytesInFlight(2 * MAX_BYTES)


@pytest.fixture
def client(in_flight: BytesInFlight) -> Iterator[TestClient]:
    edge = edge_around(
        Starlette(routes=[Route("/echo", echo, methods=["POST"])]),
        public_guards(in_flight),
        accepted={"/echo": Accepted(MAX_BYTES, max_values=100)},
        timeout_seconds=TIMEOUT_SECONDS,
        body_timeout_seconds=TIMEOUT_SECONDS,
    )
    with TestClient(edge, raise_server_exceptions=False) as client:
        yield client


def fault(response: Any) -> tuple[int, str]:
    content = response.json()
    assert set(content) == {"error", "detail"}
    return response.status_code, content["error"]


@pytest.mark.parametrize("size", [0, 1, START_BYTES - 1, START_BYTES, START_BYTES + 1, MAX_BYTES])
def test_a_body_arrives_as_it_was_sent(client: TestClient, size: int) -> None:
    body = (b'"' + b"a" * (size - 2) + b'"') if size > 1 else b"1" * size
    response = client.post("/echo", content=body)
    assert response.content == body if size else response.status_code == 400


def test_one_byte_too_many_is_413(client: TestClient, in_flight: BytesInFlight) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"a" * MAX_BYTES
        yield b"a"

    for content in (b"a" * (MAX_BYTES + 1), chunks()):
        status, message = fault(client.post("/echo", content=content))
        assert status == 413
        assert f"{MAX_BYTES:,} bytes" in message
        assert in_flight.bytes == 0


def test_too_many_values_are_413(client: TestClient) -> None:
    status, message = fault(client.post("/echo", content=json.dumps([0] * 200)))
    assert (status, "100 values" in message) == (413, True)


def test_commas_in_a_text_are_no_values(client: TestClient) -> None:
    assert client.post("/echo", content=json.dumps(",[{" * 200)).status_code == 200


class TestInFlight:
    def test_without_room_it_is_503(self, client: TestClient, in_flight: BytesInFlight) -> None:
        in_flight.bytes = 2 * MAX_BYTES - 10
        response = client.post("/echo", content=b"1" * 11)
        assert fault(response)[0] == 503
        assert int(response.headers["retry-after"]) >= 1
        assert client.post("/echo", content=b"1" * 10).status_code == 200
        assert in_flight.bytes == 2 * MAX_BYTES - 10

    def test_small_bodies_have_room_beside_large_ones(self, client: TestClient, in_flight: BytesInFlight) -> None:
        in_flight.bytes = 2 * MAX_BYTES * 3 // 4
        assert client.post("/echo", content=b"1" * (START_BYTES + 1)).status_code == 503
        assert client.post("/echo", content=b"1").status_code == 200

    @pytest.mark.parametrize(("zeros", "status"), [(5_000, 200), (0, 200)])
    def test_a_length_may_have_many_digits(self, client: TestClient, zeros: int, status: int) -> None:
        headers = {"Content-Length": "0" * zeros + "1"}
        assert client.post("/echo", content=b"1", headers=headers).status_code == status

    def test_undeclared_bytes_count_as_they_come(self, client: TestClient, in_flight: BytesInFlight) -> None:
        in_flight.bytes = 2 * MAX_BYTES - 10
        assert client.post("/echo", content=iter([b"1" * 6, b"1" * 6])).status_code == 503
        assert in_flight.bytes == 2 * MAX_BYTES - 10

    @pytest.mark.parametrize("body", [b"1", b"{", b"[" * 1_000, b""])
    def test_bytes_are_free_again_after_the_answer(
        self, client: TestClient, in_flight: BytesInFlight, body: bytes
    ) -> None:
        client.post("/echo", content=body)
        assert in_flight.bytes == 0


class TestGzip:
    def test_it_is_decoded(self, client: TestClient) -> None:
        body = json.dumps("a film " * 100_000).encode()
        for coding in ("gzip", "GZIP", "x-gzip"):
            response = client.post("/echo", content=gzip.compress(body), headers={"Content-Encoding": coding})
            assert response.content == body

    def test_deflate_is_the_zlib_format(self, client: TestClient, in_flight: BytesInFlight) -> None:
        headers = {"Content-Encoding": "deflate"}
        body = json.dumps("a film " * 10_000).encode()
        assert client.post("/echo", content=zlib.compress(body), headers=headers).content == body
        bomb = zlib.compress(b"1" * (MAX_BYTES + 1))
        assert fault(client.post("/echo", content=bomb, headers=headers))[0] == 413
        status, message = fault(client.post("/echo", content=gzip.compress(body), headers=headers))
        assert (status, "deflate" in message) == (400, True)
        assert in_flight.bytes == 0

    def test_it_may_have_several_members(self, client: TestClient) -> None:
        body = b"".join(map(gzip.compress, (b'"a', b"", b'b"')))
        assert client.post("/echo", content=body, headers={"Content-Encoding": "identity, gzip"}).content == b'"ab"'

    def test_it_may_have_only_so_many_members(self, client: TestClient, in_flight: BytesInFlight) -> None:
        empty, text = gzip.compress(b""), gzip.compress(b'"ab"')
        headers = {"Content-Encoding": "gzip"}
        assert client.post("/echo", content=empty * (MAX_MEMBERS - 1) + text, headers=headers).content == b'"ab"'
        status, message = fault(client.post("/echo", content=empty * MAX_MEMBERS + text, headers=headers))
        assert (status, "members" in message) == (413, True)
        assert in_flight.bytes == 0

    def test_the_bound_is_of_the_decoded_size(self, client: TestClient, in_flight: BytesInFlight) -> None:
        bomb = gzip.compress(b"1" * (MAX_BYTES + 1))
        assert fault(client.post("/echo", content=bomb, headers={"Content-Encoding": "gzip"}))[0] == 413
        whole = gzip.compress(b'"' + b"1" * (MAX_BYTES - 2) + b'"')
        assert client.post("/echo", content=whole, headers={"Content-Encoding": "gzip"}).status_code == 200
        assert in_flight.bytes == 0

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"1",
            gzip.compress(b"1", mtime=0)[:-1],
            gzip.compress(b"1", mtime=0) + b"1",
            zlib.compress(b"1"),
        ],
    )
    def test_what_is_no_gzip_is_400(self, client: TestClient, body: bytes) -> None:
        status, message = fault(client.post("/echo", content=body, headers={"Content-Encoding": "gzip"}))
        assert (status, "gzip" in message) == (400, True)

    @pytest.mark.parametrize("coding", ["br", "gzip, deflate", "gzip, gzip", "x-nonsense"])
    def test_another_coding_is_415(self, client: TestClient, coding: str) -> None:
        response = client.post("/echo", content=b"1", headers={"Content-Encoding": coding})
        assert fault(response)[0] == 415
        assert response.headers["accept-encoding"] == "gzip, deflate"

    def test_no_coding_may_be_declared(self, client: TestClient) -> None:
        assert client.post("/echo", content=b"1", headers={"Content-Encoding": "identity"}).content == b"1"


class TestCharset:
    def test_a_byte_order_mark_is_no_part_of_it(self, client: TestClient) -> None:
        assert client.post("/echo", content=b'\xef\xbb\xbf"a"').content == b'"a"'

    @pytest.mark.parametrize(
        "charset", ["ISO-8859-1", '"windows-1252"', "latin1", "cp1252", "utf-8", "UTF8", "UTF-16", "utf-16le"]
    )
    def test_it_is_read_in_the_charset_that_is_declared(self, client: TestClient, charset: str) -> None:
        body = '"très bon café"'
        headers = {"Content-Type": f"application/json; charset={charset}"}
        response = client.post("/echo", content=body.encode(charset.strip('"')), headers=headers)
        assert response.content == body.encode()

    def test_another_charset_is_415(self, client: TestClient) -> None:
        response = client.post("/echo", content=b'"a"', headers={"Content-Type": "application/json; charset=koi8-r"})
        assert fault(response)[0] == 415

    def test_a_large_body_of_another_charset_is_413(self, client: TestClient) -> None:
        headers = {"Content-Type": "application/json; charset=latin1"}
        assert fault(client.post("/echo", content=b"1" * (START_BYTES + 1), headers=headers))[0] == 413

    def test_what_is_not_of_its_charset_is_400(self, client: TestClient) -> None:
        response = client.post("/echo", content=b'"a"', headers={"Content-Type": "application/json; charset=utf-16"})
        assert fault(response)[0] == 400


class TestProgress:
    """Bodies whose chunks arrive when the test decides."""

    @staticmethod
    def body(chunks: AsyncIterator[bytes], told: list[int]) -> RequestBody:
        async def receive() -> Message:
            chunk = await anext(chunks, None)
            if chunk is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": chunk, "more_body": chunk != b"end"}

        class Told:
            async def for_body(self) -> None:
                told.append(body.held)

            async def for_answer(self) -> None:
                pass

        body = RequestBody({}, None, receive, MAX_BYTES, BytesInFlight(MAX_BYTES), Told())
        return body

    def test_every_so_many_bytes_are_progress(self) -> None:
        told: list[int] = []

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(16):
                yield b"a" * (PROGRESS_BYTES // 4)
            yield b"end"

        body = self.body(chunks(), told)
        assert len(asyncio.run(body.all())) == 4 * PROGRESS_BYTES + 3
        assert told == [PROGRESS_BYTES // 4, *((n + 1) * PROGRESS_BYTES for n in range(4))]

    def test_a_trickle_is_none(self) -> None:
        told: list[int] = []

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(1_000):
                yield b"a"
            yield b"end"

        asyncio.run(self.body(chunks(), told).all())
        assert told == [1]  # told once, when the body began to arrive

    def test_a_client_that_leaves_ends_it(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a"

        with pytest.raises(ClientGoneError):
            asyncio.run(self.body(chunks(), []).all())

    def test_a_body_too_large_ends_it(self) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"a" * START_BYTES

        with pytest.raises(RefusedError):
            asyncio.run(self.body(chunks(), []).all())
