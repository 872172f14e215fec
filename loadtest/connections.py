"""Keep Locust's connections open, however many there are.

Its HTTP client asks select() whether a connection is still open, which fails for file descriptors from 1024 on: users
beyond the first thousand would open another connection for each request, at the cost of client and server alike.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Protocol

from gevent.monkey import get_original
from geventhttpclient import connectionpool


class Socket(Protocol):
    """What has a file descriptor."""

    def fileno(self) -> int:
        """Return the file descriptor."""


def readable(sockets: Sequence[Socket], *_: object) -> tuple[list[Socket], list[Socket], list[Socket]]:
    """Return which sockets can be read now, as `select.select(sockets, [], [], 0)` does, of any file descriptors."""
    poll = get_original("select", "poll")()
    for socket in sockets:
        poll.register(socket.fileno(), get_original("select", "POLLIN"))
    ready = {descriptor for descriptor, _ in poll.poll(0)}
    return [socket for socket in sockets if socket.fileno() in ready], [], []


def keep_connections() -> None:
    """Have Locust's HTTP client ask poll() instead."""
    if sys.platform != "win32":  # there is no poll there, and select() takes any socket
        setattr(connectionpool, "select", SimpleNamespace(select=readable))  # noqa: B010  it exports no such name
