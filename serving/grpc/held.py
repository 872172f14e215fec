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
# So many packed bytes are handed to zlib at a time, since it copies those that it leaves each time.
PACKED_BYTES = 2**16


class Held:
    """A message, and its bytes in flight until `release`."""

    def __init__(self, message: bytes, in_flight: BytesInFlight, max_bytes: int) -> None:
        self.message = message
        self.in_flight = in_flight
        self.max_bytes = max_bytes
        self.size = 0

    async def take(self) -> None:
        """Hold the message, unpacked; raise CallError, RefusedError or ProtocolError where it cannot be taken."""
        self.hold(len(self.message))
        if self.message.startswith((GZIP, *DEFLATE)):
            coding = "gzip" if self.message.startswith(GZIP) else "deflate"
            self.message = await self.unpacked(self.message, coding)

    def pop(self, max_bytes: int) -> bytes:
        """Return the message, of at most `max_bytes`, and forget it; raise CallError where it has more.

        Its memory is free as soon as it has been read; what was made of it takes as much, and counts until `release`.
        """
        message, self.message = self.message, b""
        if len(message) > max_bytes:
            raise too_large(max_bytes)
        return message

    async def unpacked(self, message: bytes, coding: str) -> bytes:
        """Return a compressed message unpacked, while others have their turn."""
        decoder = zlib.decompressobj(CODINGS[coding.encode()])
        found = bytearray()
        try:
            for start in range(0, len(message), PACKED_BYTES):
                packed = message[start : start + PACKED_BYTES]
                while packed:
                    if decoder.eof:
                        raise ProtocolError(f"the message is not valid {coding}: it goes on after its end")
                    piece = decoder.decompress(packed, DECODED_BYTES)
                    packed = decoder.unconsumed_tail or decoder.unused_data
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
