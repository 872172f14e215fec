"""uvicorn with HttpProtocol, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serving.bento.protocol import JOINED_BYTES, HttpProtocol, JoinedWrites
from tests.support.clocks import wait_until

LIMIT_SECONDS = 60
BODY = b'{"text": ["a fine evening"]}'


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the body of the request."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


async def other(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with a body of its own."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"other"})


async def late(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the usual body in the last of some pieces."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (*[b"a" * 2**20] * 4, BODY):
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": piece, "more_body": piece != BODY})


@contextlib.contextmanager
def serving(protocol: type[HttpProtocol]) -> Iterator[int]:
    """Run a server in a thread; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(echo, http=protocol, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started, LIMIT_SECONDS)
        yield listening.getsockname()[1]
        server.should_exit = server.force_exit = True
        thread.join(LIMIT_SECONDS)


class Patient(HttpProtocol):
    keep_alive_seconds = stall_seconds = 2 * LIMIT_SECONDS


class Impatient(HttpProtocol):
    keep_alive_seconds, stall_seconds = 2 * LIMIT_SECONDS, 0.5


class Forgetful(HttpProtocol):
    keep_alive_seconds, stall_seconds = 0.1, 2 * LIMIT_SECONDS


class Direct(HttpProtocol):
    edge = staticmethod(other)


class Late(HttpProtocol):
    edge = staticmethod(late)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(Patient) as port:
        yield port


@pytest.fixture(scope="module")
def impatient_port() -> Iterator[int]:
    with serving(Impatient) as port:
        yield port


def head(*lines: str, method: str = "POST", length: int = len(BODY)) -> bytes:
    return "\r\n".join([f"{method} /a HTTP/1.1", "Host: x", *lines, f"Content-Length: {length}", "", ""]).encode()


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
PLAIN = head()
OFFERS = {
    "h2c": head(*UPGRADE),
    "h2c, kept": head("Connection: Upgrade, HTTP2-Settings, keep-alive", *UPGRADE[1:]),
    "two lines": head("Connection: Upgrade", "Connection: HTTP2-Settings", *UPGRADE[1:]),
    "websocket": head("Connection: Upgrade", "Upgrade: websocket"),
    "lower case": head("connection: upgrade", "upgrade: H2C"),
}


def talk(port: int, *pieces: bytes, answers: int) -> bytes:
    """Send pieces on a new connection; return what comes back until `answers` responses, or its end."""
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while received.count(BODY) < answers and (chunk := connection.recv(2**16)):
            received += chunk
        return received


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_an_offer_of_another_protocol_is_declined_and_the_connection_goes_on(
    port: int, offer: bytes, size: int
) -> None:
    sent = (offer + BODY) * 2 + PLAIN + BODY
    received = talk(port, *(sent[at : at + size] for at in range(0, len(sent), size)), answers=3)
    assert received.count(b"200 OK") == received.count(BODY) == 3


def test_a_chunked_body_survives_the_offer(port: int) -> None:
    lines = ("POST /a HTTP/1.1", "Host: x", *UPGRADE, "Transfer-Encoding: chunked", "", "")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (BODY[:5], BODY[5:]))
    received = talk(port, "\r\n".join(lines).encode(), chunks + b"0\r\n\r\n", PLAIN + BODY, answers=2)
    assert received.count(BODY) == 2


def test_thousands_of_offers_in_one_piece_are_answered(port: int) -> None:
    assert talk(port, (OFFERS["h2c"] + BODY) * 2_000, answers=2_000).count(BODY) == 2_000


def test_connect_is_refused_or_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        connection.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n" + b"x" * 100)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(2**16):
            pass
    assert talk(port, PLAIN + BODY, answers=1).count(BODY) == 1


def test_a_wish_to_close_is_kept(port: int) -> None:
    received = talk(port, head("Connection: Upgrade, close", "Upgrade: h2c") + BODY, answers=2)
    assert received.count(BODY) == 1


def rest(connection: socket.socket) -> bytes:
    """Return what arrives until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(2**16):
            received += chunk
    return received


@pytest.mark.parametrize("sent", [b"", b"P", b"POST /a HTTP/1.1\r\nHost: x\r\n", PLAIN + BODY + b"POST"])
def test_a_head_that_does_not_come_ends_the_connection(impatient_port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient_port), LIMIT_SECONDS) as connection:
        connection.sendall(sent)
        assert rest(connection).count(BODY) == sent.count(BODY)


def test_a_client_that_reads_nothing_is_left(impatient_port: int) -> None:
    body = b"a" * 2**24
    with socket.create_connection(("127.0.0.1", impatient_port), LIMIT_SECONDS) as connection:
        connection.sendall(head(length=len(body)) + body)
        wait_until(lambda: closed(connection), LIMIT_SECONDS)


def closed(connection: socket.socket) -> bool:
    """Return whether the server has reset the connection, found out by a write, not a read."""
    try:
        connection.send(b"\r\n")
    except ConnectionError:
        return True
    return False


def test_requests_go_to_the_edge_without_a_detour() -> None:
    with serving(Direct) as port, socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        connection.sendall(head("Connection: close") + BODY)
        assert rest(connection).endswith(b"\r\n\r\nother")


def test_a_connection_is_kept_as_long_as_is_said() -> None:
    with serving(Forgetful) as port, socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        connection.sendall(PLAIN + BODY)
        assert rest(connection).count(BODY) == 1


@pytest.mark.parametrize("line", [b"a: " + b"b" * 2**20, b"a: b\r\n" * 2**18, b"b" * 2**20])
def test_a_large_head_is_refused(port: int, line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"POST /a HTTP/1.1\r\nHost: x\r\n" + line)
        assert b" 200 " not in rest(connection)
    assert talk(port, PLAIN + BODY, answers=1).count(BODY) == 1


@pytest.mark.parametrize("trailer", [b"a: " + b"b" * 2**20, b"a: b\r\n" * 2**18])
def test_large_trailers_are_refused(port: int, trailer: bytes) -> None:
    start = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(start + trailer)
        assert b" 200 " not in rest(connection)


@pytest.mark.parametrize("size", [16, 1_000])
def test_a_body_in_small_chunks_is_read(port: int, size: int) -> None:
    lines = ("POST /a HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "", "")
    body = BODY * 20_000
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    assert talk(port, "\r\n".join(lines).encode() + chunks + b"0\r\n\r\n", answers=20_000).count(BODY) == 20_000


@pytest.mark.parametrize("chunk", [b"1\r\n \r\n", b"1;" + b"a" * 1_000 + b"\r\n \r\n"])
def test_more_about_chunks_than_in_them_is_refused(port: int, chunk: bytes) -> None:
    start = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(start + chunk * 2**18 + b"0\r\n\r\n")
        assert b" 200 " not in rest(connection)


def test_requests_that_wait_are_not_added_to(port: int) -> None:
    many = (PLAIN + BODY) * 20_000
    assert talk(port, many, answers=20_000).count(BODY) == 20_000
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        connection.settimeout(1)
        sent = 0
        with contextlib.suppress(TimeoutError):  # the server stops reading from a client that does not read
            while sent < 2**26:
                start = sent % len(many)
                sent += connection.send(many[start : start + 2**16])
        assert sent < 2**26


def test_a_slow_reader_gets_its_answer(impatient_port: int) -> None:
    body = b"a" * 2**21
    with socket.create_connection(("127.0.0.1", impatient_port), LIMIT_SECONDS) as connection:
        connection.sendall(head(length=len(body)) + body)
        received = 0
        while received < len(body):
            received += len(connection.recv(2**13))
        assert received >= len(body)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the bytes that the kernel holds are not told")
def test_a_reader_whose_progress_only_the_kernel_sees_gets_its_answer(impatient_port: int) -> None:
    body = b"a" * 2**24
    with socket.create_connection(("127.0.0.1", impatient_port), LIMIT_SECONDS) as connection:
        sending = threading.Thread(target=connection.sendall, args=(head(length=len(body)) + body,))
        sending.start()
        received = 0
        while received < 2**22 and (chunk := connection.recv(2**16)):  # more than the kernel lets through at a time
            received += len(chunk)
            time.sleep(0.03)
        while received < len(body) and (chunk := connection.recv(2**20)):
            received += len(chunk)
        sending.join()
        assert received >= len(body)


def test_of_several_requests_the_one_that_is_answered_learns_that_the_client_left() -> None:
    errors = io.StringIO()
    with serving(Late) as port:
        logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(errors))  # until the next server's start
        with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is reset
            connection.sendall(3 * (PLAIN + BODY))
        talk(port, PLAIN + BODY, answers=1)
    assert errors.getvalue() == ""


@pytest.mark.parametrize(
    "sent", [b"junk\r\n\r\n", b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"]
)
def test_what_is_no_http_gets_an_error_of_our_form(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), LIMIT_SECONDS) as connection:
        connection.sendall(sent)
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert set(json.loads(body)) == {"error", "detail"}


class Written:
    """A transport that records what is written to it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.closed = True


def test_a_head_goes_with_the_first_of_its_body() -> None:
    written = Written()
    joined: Any = JoinedWrites(written)  # type: ignore[arg-type]
    for piece in (b"HTTP/1.1 100 Continue\r\n\r\n", b"head", b"body", b"HTTP/1.1 more"):
        joined.write(piece)
    joined.end()
    joined.write(b"head without a body")
    joined.end()
    joined.write(b"head")
    joined.write(b"a" * (JOINED_BYTES + 1))
    joined.end()
    joined.write(b"head")
    joined.close()
    assert written.pieces == [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"headbody",
        b"HTTP/1.1 more",
        b"head without a body",
        b"head",
        b"a" * (JOINED_BYTES + 1),
        b"head",
    ]
    assert written.closed
