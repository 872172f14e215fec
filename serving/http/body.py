"""The body of a request on its way in: bounded in bytes and in time, counted with all others, decoded."""

from __future__ import annotations

import asyncio
import codecs
import functools
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import Protocol, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.responses import Response
from starlette.types import Message, Receive

from serving.http.errors import ClientGoneError, RefusedError, error_response, overloaded

# What must arrive within each time-out: 51 kbit/s with one of 10 s. A slow client is served, a stalled one is not.
PROGRESS_BYTES = 2**16
# How much of a body is read before anything else is done; only a body that ends by then is looked up in the cache.
START_BYTES = 2**20
# Parsing a smaller body takes less time than handing it to a thread.
SMALL_BODY_BYTES = 2**14
# How much of a compressed body is decoded at a time: more would hold up other requests.
DECODED_BYTES = 2**18
# The most members of a compressed body: each has what follows it copied.
MAX_MEMBERS = 10_000
# What zlib is to expect, by Content-Encoding (RFC 9110, section 8.4.1: deflate is the zlib format).
CODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
# How many digits of a Content-Length are read; more make it larger than any bound.
MAX_DIGITS = 20
# A quarter of the bytes in flight is reserved for bodies of at most START_BYTES: large ones cannot shut them out.
RESERVED = 4
# Charsets that clients declare for JSON, which is UTF-8 (RFC 8259).
CHARSETS = ("utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252", "utf-16", "utf-16le", "utf-16be")
# By the names of Python's codecs, which also know aliases of the charsets.
CODECS = {codecs.lookup(charset).name for charset in CHARSETS}

Parsed = TypeVar("Parsed")


class BytesInFlight:
    """The bytes of all bodies that a worker holds at a time, at most `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0

    def check(self, more: int, size: int) -> None:
        """Raise RefusedError when there is no room for `more` bytes of a body that then has `size` bytes."""
        room = self.max_bytes if size <= START_BYTES else self.max_bytes - self.max_bytes // RESERVED
        if self.bytes + more > room:
            raise RefusedError(overloaded(1, f"all bodies together have more than {self.max_bytes:,} bytes"))


class Progress(Protocol):
    """The receiver of reports on the arrival of a body."""

    async def for_body(self) -> None:
        """Wait for more of the body."""

    async def for_answer(self) -> None:
        """Wait for the answer, now that all of the body has arrived."""


class RequestBody:
    """The body of one request, of at most `max_bytes` both before and after it is decoded.

    `first` is the message that has been received already, if one has. Its bytes count as in flight from when they are
    read until `release`. `progress` is told whenever PROGRESS_BYTES more have arrived, and when all have. Reading
    raises RefusedError for a body that is too large or encoded in a way that is not understood, and ClientGoneError
    when it ends early.
    """

    more = True
    complete = False
    size = held = 0
    begun: bytes | None = None

    def __init__(
        self,
        headers: Mapping[bytes, bytes],
        first: Message | None,
        receive: Receive,
        max_bytes: int,
        in_flight: BytesInFlight,
        progress: Progress,
    ) -> None:
        self.headers = headers
        self.first = first
        self.receive = receive
        self.max_bytes = max_bytes
        self.in_flight = in_flight
        self.progress = progress

    @property
    def arrived(self) -> bytes | None:
        """The whole body if it came in one message and unencoded, else None; it still counts as unread."""
        first = self.first
        if first is None or first.get("more_body", True) or b"content-encoding" in self.headers:
            return None
        body: bytes = first.get("body", b"")
        return body

    @functools.cached_property
    def pieces(self) -> AsyncIterator[bytes]:
        """The rest of the decoded body in pieces, from where reading left off."""
        return self.decoded(self.coding) if self.coding else self.received()

    async def start(self) -> bytes:
        """Return the first START_BYTES or a little more; `complete` then says whether that is the whole body."""
        if self.begun is None:
            self.check_declared()
            self.begun = await self.read_start()
        return self.begun

    def check_declared(self) -> None:
        """Raise RefusedError when the head of the request shows that its body cannot be taken."""
        self.coding = coding_of(self.headers[b"content-encoding"]) if b"content-encoding" in self.headers else b""
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit():
            size = int(declared.lstrip(b"0")[:MAX_DIGITS] or b"0")
            self.check_size(size)
            self.in_flight.check(size, size)

    async def read_start(self) -> bytes:
        """Read the first START_BYTES or a little more."""
        chunks: list[bytes] = []
        if not self.coding:
            chunks.append(await self.next())
            if not self.more:  # the usual case
                self.complete = True
                return chunks[0]
        await self.progress.for_body()
        size = sum(map(len, chunks))
        async for piece in self.pieces:
            chunks.append(piece)
            size += len(piece)
            if size >= START_BYTES:
                return b"".join(chunks)
        self.complete = True
        return b"".join(chunks)

    async def all(self) -> bytes:
        """Return the whole body."""
        start = await self.start()
        if self.complete:
            return start
        chunks = [start, *[piece async for piece in self.pieces]]
        self.complete = True
        return await asyncio.to_thread(b"".join, chunks)  # it lets go of the interpreter's lock

    async def received(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        while self.more:
            yield await self.next()

    async def decoded(self, coding: bytes) -> AsyncIterator[bytes]:
        """Yield the body unzipped, in pieces; it may have several members (RFC 1952), MAX_MEMBERS at most."""
        name = coding.decode()
        decoder = zlib.decompressobj(CODINGS[coding])
        members = 1
        try:
            while self.more:
                chunk = await self.next()
                while chunk:
                    if decoder.eof:
                        members += 1
                        if members > MAX_MEMBERS:
                            raise RefusedError(too_large(f"{MAX_MEMBERS:,} members of {name}"))
                        decoder = zlib.decompressobj(CODINGS[coding])
                    piece = decoder.decompress(chunk, DECODED_BYTES)
                    chunk = decoder.unconsumed_tail or decoder.unused_data
                    self.hold(len(piece))
                    yield piece
                    await asyncio.sleep(0)
        except zlib.error:
            raise RefusedError(error_response(HTTPStatus.BAD_REQUEST, f"the body is not valid {name}")) from None
        if not decoder.eof:
            raise RefusedError(error_response(HTTPStatus.BAD_REQUEST, f"the body is not valid {name}: it ends early"))

    async def next(self) -> bytes:
        """Receive the next chunk; raise ClientGoneError when the client has left."""
        message, self.first = self.first or await self.receive(), None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        self.more = message.get("more_body", False)
        before = self.size
        self.size += len(chunk)
        if self.coding:
            self.check_size(self.size)
        else:
            self.hold(len(chunk))
        if not self.more:
            await self.progress.for_answer()
        elif self.size // PROGRESS_BYTES > before // PROGRESS_BYTES:
            await self.progress.for_body()
        return chunk

    def check_size(self, size: int) -> None:
        """Raise RefusedError when a body of `size` bytes is too large."""
        if size > self.max_bytes:
            raise RefusedError(too_large(f"{self.max_bytes:,} bytes"))

    def hold(self, more: int) -> None:
        """Count bytes as in flight; raise RefusedError when the body is too large or there is no room for them."""
        self.check_size(self.held + more)
        self.in_flight.check(more, self.held + more)
        self.held += more
        self.in_flight.bytes += more

    def release(self) -> None:
        """Stop counting the body's bytes as in flight."""
        self.in_flight.bytes -= self.held
        self.held = 0


def coding_of(header: bytes) -> bytes:
    """Return the coding that a Content-Encoding names, empty for none; raise RefusedError for one that is not known."""
    names = [name for name in header.replace(b" ", b"").lower().split(b",") if name not in (b"", b"identity")]
    if len(names) > 1 or not set(names) <= CODINGS.keys():
        raise RefusedError(
            error_response(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "the Content-Encoding of the body must be gzip or deflate, or the body not encoded",
                headers={"Accept-Encoding": "gzip, deflate"},
            )
        )
    return names[0] if names else b""


def too_large(bound: str) -> Response:
    """Return the answer to a body over a bound."""
    return error_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {bound}")


async def parse_beside(parse: Callable[[bytes], Parsed], body: bytes) -> Parsed:
    """Parse a body with `parse`, in a thread when it is large."""
    return parse(body) if len(body) <= SMALL_BODY_BYTES else await asyncio.to_thread(parse, body)


def utf8(body: bytes, content_type: bytes) -> bytes:
    """Convert a JSON body to UTF-8 without a byte order mark, from the charset that `content_type` declares.

    Raises RefusedError for a charset that is not among CHARSETS, and for a body that is not in its charset.
    """
    if b"charset" not in content_type.lower():
        return body.removeprefix(codecs.BOM_UTF8)
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8").decode("latin-1")
    try:
        codec = codecs.lookup(charset).name
    except (LookupError, ValueError):
        codec = ""
    if codec not in CODECS:
        allowed = ", ".join(CHARSETS)
        raise RefusedError(
            error_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the charset of the body must be one of {allowed}")
        )
    if codec not in ("utf-8", "ascii"):
        if len(body) > START_BYTES:  # decoding it would hold up other requests
            raise RefusedError(too_large(f"{START_BYTES:,} bytes that are not UTF-8"))
        try:
            body = body.decode(codec).encode()
        except UnicodeError:
            raise RefusedError(error_response(HTTPStatus.BAD_REQUEST, f"the body is not {codec}")) from None
    return body.removeprefix(codecs.BOM_UTF8)
