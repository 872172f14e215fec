"""Messages that the server holds: counted among the bytes in flight, and unpacked where they are compressed.

grpc would unpack them itself, but all that arrive at a time, each up to the largest size, before it hands them over:
the server turns that off (`server.py`). Then nothing but its first bytes tells whether a message is compressed. No
message of the protocol begins as gzip does, or has the field number 15 by which deflate begins.
"""

from __future__ import annotations

import asyncio
import zlib
from http import HTTPStatus

import grpc

from serving.grpc.errors import CallError
from serving.http.body import CODINGS, DECODED_BYTES, BytesInFlight
from serving.oip.errors import ProtocolError

# How compressed messages begin.
GZIP = b"\x1f\x8b"
DEFLATE = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class Held:
    """The bytes in flight of one message, from `take` to `release`."""

    def __init__(self, in_flight: BytesInFlight, max_bytes: int) -> None:
        self.in_flight = in_flight
        self.max_bytes = max_bytes
        self.size = 0

    async def take(self, message: bytes) -> bytes:
        """Return a message unpacked; raise CallError, RefusedError or ProtocolError where it cannot be taken."""
        self.hold(len(message))
        if message.startswith(GZIP):
            return await self.unpacked(message, "gzip")
        return await self.unpacked(message, "deflate") if message.startswith(DEFLATE) else message

    async def unpacked(self, message: bytes, coding: str) -> bytes:
        """Return a compressed message unpacked, while others have their turn."""
        decoder = zlib.decompressobj(CODINGS[coding.encode()])
        found = bytearray()
        try:
            while message and not decoder.eof:
                piece = decoder.decompress(message, DECODED_BYTES)
                message = decoder.unconsumed_tail
                if len(found) + len(piece) > self.max_bytes:
                    raise too_large(self.max_bytes)
                self.hold(len(piece))
                found += piece
                await asyncio.sleep(0)
        except zlib.error:
            raise ProtocolError(f"the message is not valid {coding}") from None
        if not decoder.eof:
            raise ProtocolError(f"the message is not valid {coding}: it ends early")
        return bytes(found)

    def hold(self, more: int) -> None:
        """Count bytes as in flight; raise RefusedError where there is no room for them."""
        self.in_flight.check(more, self.size + more)
        self.size += more
        self.in_flight.bytes += more

    def release(self) -> None:
        """Stop counting the bytes of the message."""
        self.in_flight.bytes -= self.size
        self.size = 0


def too_large(max_bytes: int, what: str = "bytes") -> CallError:
    """Return the error of a message over a bound."""
    text = f"the message has more than {max_bytes:,} {what}"
    return CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
