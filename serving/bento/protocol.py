"""How connections are served: uvicorn's protocol, for which BentoML has no setting."""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from http import HTTPStatus
from typing import Any

import httptools
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import error_response
from serving.http.body import RECEIVING

# Of the head of a request, or of trailers and what frames the chunks of a body, beyond as much as the body has.
MAX_HEAD_BYTES = 2**16
# Of an offer to go on by another protocol.
OFFER = (b"upgrade", b"http2-settings")


class RequestParser:
    """httptools' parser, which goes on by HTTP/1.1 where a client offers another protocol.

    httptools passes over the body of a request with `Upgrade`, as Java's HttpClient and `curl --http2` send it to
    addresses with http. That offer may be declined (RFC 9110, section 7.8); the head is then read without it.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self.protocol = protocol
        self.start()

    def start(self) -> None:
        """Begin with a request."""
        self.parser = httptools.HttpRequestParser(self.protocol)
        # As uvicorn does: what comes after a request that ends the connection is passed over.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:
        """Read what a client sent."""
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self.offers_protocol():
                    raise
                head = self.protocol.head_without_offer()
                self.start()
                data = head + data[upgrade.args[0] :]

    def offers_protocol(self) -> bool:
        """Return whether the request could go on by another protocol; CONNECT is no offer."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.parser, name)


class Receiving:
    """ASGI app that offers the extension RECEIVING to another."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on everything but messages of the extension."""

        async def pass_on(message: Message) -> None:
            if message["type"] != RECEIVING:
                await send(message)

        scope["extensions"] = {**scope.get("extensions", {}), RECEIVING: {}}
        await self.app(scope, receive, pass_on)


class PipelineControl(FlowControl):
    """uvicorn's flow control, which reads no further requests while some wait for those before them."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self.waiting = waiting

    def resume_reading(self) -> None:
        """Read again, unless requests wait."""
        if not self.waiting:
            super().resume_reading()


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, with the bounds that it lacks; it declines other protocols.

    A connection is kept for `keep_alive_seconds` between requests. It is closed when a head has not come within
    `stall_seconds` of its first byte, or of the connection; when the client reads nothing of an answer for as long;
    and when a head or trailers have more than MAX_HEAD_BYTES.
    """

    keep_alive_seconds = 5.0
    stall_seconds = 10.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.parser: Any = RequestParser(self)
        self.app: Any = Receiving(self.app)
        self.timeout_keep_alive = self.keep_alive_seconds  # type: ignore[assignment]
        self.in_head = True
        self.bytes_left = MAX_HEAD_BYTES
        self.head_timer: asyncio.TimerHandle | None = None
        self.read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        super().connection_made(transport)
        self.flow = PipelineControl(transport, self.pipeline)
        self.head_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        for timer in (self.head_timer, self.read_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read what the client sent."""
        self.bytes_left -= len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.bytes_left < 0:
            self.refuse()
        elif self.in_head and self.head_timer is None:
            self.head_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def on_message_begin(self) -> None:
        """Begin with a head."""
        self.in_head = True
        self.bytes_left = MAX_HEAD_BYTES
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is to be read again without an offer of another protocol."""
        if not self.parser.offers_protocol():
            self.in_head = False
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body."""
        self.bytes_left = min(MAX_HEAD_BYTES, self.bytes_left + 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Give the answer the end of its request, unless that is to be read again."""
        if not self.parser.offers_protocol():
            super().on_message_complete()

    def head_without_offer(self) -> bytes:
        """Return the head of the request that has just been read, without the offer of another protocol."""
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
        """Answer that a head, or trailers, are too large, and close the connection."""
        error = f"the head, or what frames the body, has more than {MAX_HEAD_BYTES:,} bytes"
        self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, error)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and close the connection."""
        self.send_error(HTTPStatus.BAD_REQUEST, msg)

    def send_error(self, status: HTTPStatus, error: str) -> None:
        """Answer with an error unless an answer has begun, and close the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            response = error_response(status, error)
            head = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), b"connection: close"]
            head += [name + b": " + value for name, value in response.raw_headers]
            self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        self.transport.close()

    def pause_writing(self) -> None:
        """Close the connection unless the client goes on reading."""
        super().pause_writing()
        self.await_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self.read_timer is not None:
            self.read_timer.cancel()

    def await_reader(self, unread: int) -> None:
        """Look again later whether the client has read any of `unread` bytes."""
        self.read_timer = self.loop.call_later(self.stall_seconds, self.close_unread, unread)

    def close_unread(self, before: int) -> None:
        """Close the connection when as much is unread as before."""
        unread = self.transport.get_write_buffer_size()
        if unread >= before:
            self.transport.abort()
        else:
            self.await_reader(unread)


def install(keep_alive_seconds: float, stall_seconds: float) -> None:
    """Have the workers that start from now on serve connections by HttpProtocol."""
    HttpProtocol.keep_alive_seconds = keep_alive_seconds
    HttpProtocol.stall_seconds = stall_seconds
    for name in ("auto", "httptools"):
        HTTP_PROTOCOLS[name] = f"{__name__}:{HttpProtocol.__name__}"
