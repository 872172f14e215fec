"""uvicorn's HTTP protocol with limits on connections that BentoML has no settings for."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Sized
from http import HTTPStatus
from typing import Any

import httptools
from starlette.types import ASGIApp
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.http.errors import error_response

# Limit of a request's head. Trailers and the framing of chunks may take this much more than the body itself.
MAX_HEAD_BYTES = 2**16
# Copying more than this would take longer than sending it separately.
JOINED_BYTES = 2**16
CONTINUE = b"HTTP/1.1 100"
# Names of headers, and values of Connection, that offer an upgrade to another protocol.
OFFER = (b"upgrade", b"http2-settings")


class JoinedWrites:
    """Transport that sends the head of an answer with the first piece of its body: one packet, one system call.

    The head is what is first written after `end`; it may wait for the body (ASGI: Response Start).
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.at_head = True
        self.head = b""

    def write(self, data: bytes) -> None:
        """Send `data` together with a held head, or hold it when it is a head."""
        if self.head:
            if len(data) > JOINED_BYTES:
                self.transport.write(self.head)
            else:
                data = self.head + data
            self.head = b""
        elif self.at_head and not data.startswith(CONTINUE):
            self.head = data
            self.at_head = False
            return
        self.transport.write(data)

    def end(self) -> None:
        """Send a held head; treat the next write as a head."""
        if self.head:
            self.transport.write(self.head)
            self.head = b""
        self.at_head = True

    def close(self) -> None:
        """Close the connection once everything is sent."""
        self.end()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class PipelineControl(FlowControl):
    """uvicorn's flow control, which also stops reading while pipelined requests wait."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self.waiting = waiting

    def resume_reading(self) -> None:
        """Resume reading, unless requests wait."""
        if self.read_paused and not self.waiting:
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, with the limits that it lacks; it declines upgrades to other protocols.

    A connection is kept for `keep_alive_seconds` between requests. It is closed when a head has not arrived within
    `stall_seconds` of its first byte, or of the connection's start; when the client reads nothing of an answer for
    as long; and when a head or trailers have more than MAX_HEAD_BYTES.

    Requests go to `edge` without a detour through BentoML's middlewares: their task, timer and span for each take a
    fifth of the time of an answer from the cache, and the edge has a time limit, spans and a log of its own.
    """

    edge: ASGIApp | None = None

    keep_alive_seconds = 5.0
    stall_seconds = 10.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.edge is not None:
            self.app: Any = self.edge
        self.timeout_keep_alive = self.keep_alive_seconds  # type: ignore[assignment]
        self.in_head = True
        self.bytes_left = MAX_HEAD_BYTES
        self.running: Any = None  # the request that is being answered; `cycle` is the one that came last
        self.head_timer: asyncio.TimerHandle | None = None
        self.read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first head."""
        super().connection_made(transport)
        self.flow = PipelineControl(transport, self.pipeline)
        self.transport: Any = JoinedWrites(transport)
        self.head_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting for a head or for the client to read; tell the request that is being answered."""
        super().connection_lost(exc)
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()
        for timer in (self.head_timer, self.read_timer):
            if timer is not None:
                timer.cancel()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Start to answer a request, maybe one of several that have come."""
        self.running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, within the bounds."""
        self._unset_keepalive_if_required()
        self.bytes_left -= len(data)
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self.declined(data[upgrade.args[0] :])
            except httptools.HttpParserError:
                self.send_error(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")
                break
        if self.bytes_left < 0 and not self.transport.is_closing():
            self.refuse()
        elif self.in_head and self.head_timer is None and not self.transport.is_closing():
            self.head_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def declined(self, rest: bytes) -> bytes:
        """Return what to parse instead of a request that offers an upgrade, followed by the `rest`.

        httptools skips the body of a request with `Upgrade`, which Java's HttpClient and `curl --http2` send to
        addresses with http. That offer may be declined (RFC 9110, section 7.8); the head is then parsed without it.
        """
        if not self.has_offer():
            self.send_error(HTTPStatus.BAD_REQUEST, "CONNECT is not served")
            return b""
        head = self.head_without_offer()
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn does: what comes after a request that ends the connection is ignored.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return head + rest

    def has_offer(self) -> bool:
        """Return whether the upgrade is an offer that can be declined; that of CONNECT cannot."""
        return bool(self.parser.get_method() != b"CONNECT")

    def on_message_begin(self) -> None:
        """Start on the head of a request."""
        self.in_head = True
        self.bytes_left = MAX_HEAD_BYTES
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start to answer, unless the head is to be parsed again without its offer of an upgrade."""
        if self.parser.should_upgrade() and self.has_offer():
            return
        self.in_head = False
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of a body, and allow as many bytes for its framing."""
        self.bytes_left += 2 * len(body)
        if self.bytes_left > MAX_HEAD_BYTES:
            self.bytes_left = MAX_HEAD_BYTES
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Signal the end of the request, unless it is to be parsed again."""
        if not (self.parser.should_upgrade() and self.has_offer()):
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Send a head still held, and go on to the next request."""
        self.transport.end()
        super().on_response_complete()

    def head_without_offer(self) -> bytes:
        """Return the head of the request that has just been read, without its offer of an upgrade."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in OFFER)
            if name not in OFFER and (value or name != b"connection"):
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def refuse(self) -> None:
        """Refuse a head, or trailers, that are too large, and close the connection."""
        error = f"the head, or what frames the body, has more than {MAX_HEAD_BYTES:,} bytes"
        self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, error)

    def send_error(self, status: HTTPStatus, error: str) -> None:
        """Answer with an error, unless an answer has begun, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            response = error_response(status, error)
            head = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), b"connection: close"]
            head += [name + b": " + value for name, value in response.raw_headers]
            self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()

    def pause_writing(self) -> None:
        """Pause writing, and close the connection unless the client goes on reading."""
        super().pause_writing()
        self.await_reader(self.unread())

    def resume_writing(self) -> None:
        """Resume writing, since the client has read."""
        super().resume_writing()
        if self.read_timer is not None:
            self.read_timer.cancel()

    def await_reader(self, unread: int) -> None:
        """Check later whether the client has read any of `unread` bytes."""
        self.read_timer = self.loop.call_later(self.stall_seconds, self.close_unread, unread)

    def unread(self) -> int:
        """Return the bytes that the client has not taken: in our buffer and, on Linux, in the kernel's.

        The kernel holds megabytes, and says late that it has room for more: a slow reader seems to stand still.
        """
        size: int = self.transport.get_write_buffer_size()
        if sys.platform == "linux":
            import fcntl
            import termios

            with contextlib.suppress(OSError):  # of a connection that is gone
                found = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
                size += int.from_bytes(found, sys.byteorder)
        return size

    def close_unread(self, before: int) -> None:
        """Close the connection when as much is unread as before; else check again later."""
        unread = self.unread()
        if unread >= before:
            self.transport.abort()
        else:
            self.await_reader(unread)


def install(keep_alive_seconds: float, stall_seconds: float) -> None:
    """Have workers that start from now on serve connections with HttpProtocol."""
    HttpProtocol.keep_alive_seconds = keep_alive_seconds
    HttpProtocol.stall_seconds = stall_seconds
    for name in ("auto", "httptools"):
        HTTP_PROTOCOLS[name] = f"{__name__}:{HttpProtocol.__name__}"
