"""Calls of gRPC over bare HTTP/2, by clients that do what no library would let them do.

Source: https://www.rfc-editor.org/rfc/rfc9113 and https://www.rfc-editor.org/rfc/rfc7541
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
HEAD_BYTES = 9


class UnreadingClient:
    """A connection whose client takes no content of any answer: the window of its streams is 0."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.next_stream = 1
        writer.write(PREFACE + frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + bytes(4)))

    def begin(self, path: str, message: bytes) -> int:
        """Send a call of one message of up to 16 KiB; return its stream."""
        stream = self.next_stream
        self.next_stream += 2
        content = b"\0" + len(message).to_bytes(4, "big") + message
        self.writer.write(frame(HEADERS, END_HEADERS, stream, request_headers(path)))
        self.writer.write(frame(DATA, END_STREAM, stream, content))
        return stream

    async def receive(self, kind: int, stream: int) -> bytes:
        """Return the content of the next frame of a kind on a stream; skip all others."""
        while True:
            head = await self.reader.readexactly(HEAD_BYTES)
            content = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS and not head[4] & ACK:
                self.writer.write(frame(SETTINGS, ACK, 0))
            if head[3] == kind and int.from_bytes(head[5:], "big") == stream:
                return content


@asynccontextmanager
async def unreading_client(port: int) -> AsyncIterator[UnreadingClient]:
    """Connect to a port of the loopback interface; yield a client whose server knows that it takes no content."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        client = UnreadingClient(reader, writer)
        await client.receive(SETTINGS, 0)
        yield client
    finally:
        writer.close()


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def request_headers(path: str) -> bytes:
    """Return the headers of a call, each written out."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    texts = [text.encode() for field in fields.items() for text in field]
    lengths = [bytes([len(text)]) for text in texts]
    assert all(len(text) < 127 for text in texts)  # a longer one has its length in more bytes
    parts = [length + text for length, text in zip(lengths, texts, strict=True)]
    return b"".join(b"\0" + parts[place] + parts[place + 1] for place in range(0, len(parts), 2))
