"""Answers that have been handed to grpc, but that their clients have yet to read.

grpc keeps them for as long as a client does not read and its connection lasts, and cannot be told to give one up: a
client that reads nothing could have the server keep hundreds of megabytes.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from serving.http.proxies import parse

OPEN_FILES = Path("/dev/fd")


class Unread:
    """Counts unread answers; with more than `max_bytes` of them, closes the connection that has most."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.connections: dict[str, int] = {}  # bytes by the other end, as grpc writes it

    def add(self, size: int, peer: str) -> Callable[[], None]:
        """Count an answer of `size` bytes; return what to call once it has been sent."""
        self.bytes += size
        self.connections[peer] = self.connections.get(peer, 0) + size
        while self.bytes > self.max_bytes:
            most = max(self.connections, key=lambda each: self.connections[each])
            self.bytes -= self.connections.pop(most)
            close_connection(most)

        def sent() -> None:
            if peer in self.connections:
                self.bytes -= size
                self.connections[peer] -= size
                if not self.connections[peer]:
                    del self.connections[peer]

        return sent


def split_peer(written: str) -> tuple[str, int]:
    """Return address and port in what grpc calls the other end of a connection, such as `ipv6:%5B::1%5D:50051`.

    What is neither IPv4 nor IPv6, such as a Unix socket, is returned as it is, with port 0.
    """
    kind, _, rest = unquote(written).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return written, 0
    address, _, port = rest.rpartition(":")
    return address.strip("[]"), int(port)


def close_connection(peer: str) -> None:
    """Close this process's connection to an address as grpc writes it, if there is one; grpc itself closes none."""
    address, port = split_peer(peer)
    wanted = parse(address), port
    for file in [*OPEN_FILES.iterdir()]:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(file.name))) as found:
            other = found.getpeername()
            if found.family in (socket.AF_INET, socket.AF_INET6) and (parse(other[0]), other[1]) == wanted:
                found.shutdown(socket.SHUT_RDWR)
