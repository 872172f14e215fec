"""Connections of Locust's users are kept, whatever their file descriptors."""

from __future__ import annotations

import fcntl
import resource
import select
import socket
from collections.abc import Iterator

import pytest
from geventhttpclient import connectionpool
from geventhttpclient.connectionpool import ConnectionPool

from loadtest.connections import keep_connections

# The first that select() cannot ask about.
DESCRIPTOR = 1024


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield both ends of a connection, the first at a large file descriptor, with the client as the users have it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * DESCRIPTOR)), hard))
    monkeypatch.setattr(connectionpool, "select", select)
    keep_connections()
    near, far = socket.socketpair()
    with socket.socket(fileno=fcntl.fcntl(near, fcntl.F_DUPFD, DESCRIPTOR)) as distant, far:
        near.close()
        yield distant, far


def is_alive(found: socket.socket) -> bool:
    return ConnectionPool("localhost", 80, "localhost", 80)._is_socket_alive(found)


def test_an_open_connection_is_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    assert is_alive(pair[0])


def test_a_connection_that_the_server_closed_is_not(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    assert not is_alive(pair[0])
