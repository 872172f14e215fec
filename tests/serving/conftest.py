"""What the tests of Redis share: real Redis processes, and TCP servers that are none."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from prometheus_client import REGISTRY
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadtest.processes import free_port, redis_program

START_SECONDS = 60
RECOVERY_SECONDS = 60

COMMAND = re.compile(rb"\*\d+\r\n")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class RedisServer:
    """A redis-server process on the loopback interface, which can be started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        while self.port > 2**16 - 1 - 10_000:  # a cluster's node also listens on the port greater by 10,000
            self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it with an empty database; return when it answers."""
        command = [redis_program(), *options, "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self.folder / f"redis-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                # The configuration file, where there is one, comes first.
                [*command, "--dir", str(self.folder), "--save", "", "--appendonly", "no"],
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, START_SECONDS)

    def answers(self) -> bool:
        """Whether it answers, if only that it wants a password."""
        try:
            return self.ask("PING") is True
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def ask(self, *command: str | bytes | int) -> Any:
        """The reply to a command."""
        with redis.Redis(port=self.port, socket_timeout=START_SECONDS, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        assert self.process is not None
        psutil.Process(self.process.pid).suspend()

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        psutil.Process(self.process.pid).resume()

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(START_SECONDS)
            self.process = None


@pytest.fixture
def stopped_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that has not been started."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def redis_server(stopped_redis: RedisServer) -> RedisServer:
    """A Redis that runs."""
    stopped_redis.start()
    return stopped_redis


@pytest.fixture
def cluster(stopped_redis: RedisServer) -> RedisServer:
    """A cluster of one node."""
    stopped_redis.start("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{stopped_redis.port}.conf")
    stopped_redis.ask("CLUSTER", "ADDSLOTS", *range(16_384))
    wait_until(lambda: b"cluster_state:ok" in stopped_redis.ask("CLUSTER", "INFO"), START_SECONDS)
    return stopped_redis


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate with its key."""
    path = tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    subprocess.run(
        [
            *command.split(),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            str(path),
            "-out",
            str(tmp_path / "own"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "own").read_bytes())
    return path


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """What asynchronous tests run on: the event loop that the server has."""
    return "asyncio", {"use_uvloop": importlib.util.find_spec("uvloop") is not None}


@contextlib.contextmanager
def tcp_server(handle: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Port of a TCP server in a thread of its own, which hands every connection to `handle`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(START_SECONDS)

    async def handle_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # asyncio would log it
            await handle(reader, writer)

    server = call(asyncio.start_server(handle_quietly, "127.0.0.1", port, ssl=tls))

    async def end() -> None:
        server.close()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        call(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)
        loop.close()


def replying(reply: bytes) -> Handler:
    """A handler that has one reply for all commands."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while chunk := await reader.read(2**16):
                # Several commands may come at once.
                writer.write(reply * len(COMMAND.findall(chunk)))

    return handle


def forwarding(port: int, delay_seconds: float = 0.0) -> Handler:
    """A handler that passes on to and from `port`, each chunk after a delay."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while chunk := await reader.read(2**16):
                await asyncio.sleep(delay_seconds)
                writer.write(chunk)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    return handle


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Return once it holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        time.sleep(0.05)


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = RECOVERY_SECONDS) -> None:
    """Return once it holds; fail when that takes too long."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        await asyncio.sleep(0.05)


def sample(name: str, **labels: str) -> float:
    """A metric of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
