"""An honest client in its own process, which attackers in this one do not slow down.

It reads pickled requests from standard input and sends them in turn on a keep-alive connection until the input is
closed. Once each was sent it writes a line to standard output, and in the end the pickled results.
"""

from __future__ import annotations

import contextlib
import http.client
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# When a client gives up.
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.002
END_SECONDS = PATIENCE_SECONDS + 30
WARM = b"warm\n"
ROOT = Path(__file__).resolve().parent.parent.parent


class Request(NamedTuple):
    """A request that is sent repeatedly."""

    method: str
    path: str
    body: bytes
    headers: dict[str, str]


class Result(NamedTuple):
    """When a request was sent, in seconds since the epoch, its response time, and its status; 0 for none."""

    sent: float
    seconds: float
    status: int


class HonestClient:
    """The client's process."""

    def __init__(self, port: int, requests: list[Request]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.honest", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(pickle.dumps(requests))
        self.process.stdin.flush()

    def wait_until_warm(self) -> None:
        """Wait until each request was sent once."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == WARM

    def results(self) -> list[Result]:
        """End the client and return the results of its requests."""
        output, _ = self.process.communicate(timeout=END_SECONDS)
        return [Result(*entry) for entry in pickle.loads(output)]


@contextlib.contextmanager
def honest_client(port: int, requests: list[Request]) -> Iterator[HonestClient]:
    """Yield a client of the server at a port of the loopback interface, and end it by its process id."""
    client = HonestClient(port, requests)
    try:
        yield client
    finally:
        if client.process.poll() is None:
            client.process.kill()
            client.process.wait(END_SECONDS)


def send(connection: http.client.HTTPConnection, request: Request) -> int:
    """Send a request; return the status of the response, 0 if there is none."""
    for fresh in (connection.sock is None, True):
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            response.read()
            return response.status
        except (http.client.RemoteDisconnected, ConnectionError):
            # A server may close a keep-alive connection, though not a new one.
            connection.close()
            if fresh:
                return 0
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0
    return 0


def main() -> None:
    """Send requests until standard input is closed."""
    requests: list[Request] = pickle.load(sys.stdin.buffer)
    ended = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=PATIENCE_SECONDS)
    results: list[tuple[float, float, int]] = []
    while not ended.wait(PAUSE_SECONDS):
        request = requests[len(results) % len(requests)]
        sent, start = time.time(), time.perf_counter()
        status = send(connection, request)
        results.append((sent, time.perf_counter() - start, status))
        if len(results) == len(requests):
            sys.stdout.buffer.write(WARM)
            sys.stdout.buffer.flush()
    sys.stdout.buffer.write(pickle.dumps(results))


if __name__ == "__main__":
    main()
