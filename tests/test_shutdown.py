"""Shutdown and replacement of servers: real processes, signals and a load balancer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.clocks import wait_until
from tests.support.servers import STOP_SECONDS, Server, started_server

GRACE_SECONDS = 2
RESTART_SECONDS = 120
ENV = {"TIFFIN_MODELS": "segmentation", "TIFFIN_SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS)}
PATH = "/segmentation/predict"
JSON = {"Content-Type": "application/json"}
CLIENTS = 8


@pytest.fixture
def server(store: Path) -> Iterator[Server]:
    with started_server(store, ENV) as server:
        yield server


@pytest.fixture(scope="module")
def lasting(store: Path) -> Iterator[Server]:
    """Start a server for tests that do not end it."""
    with started_server(store, ENV) as server:
        yield server


def ready(server: Server) -> bool:
    return httpx.get(f"{server.address}/readyz", verify=False).status_code == 200


def answers(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.post(server.address + PATH, json={"data": [{}]}, timeout=2, verify=False).status_code == 200
    return False


def end(server: Server) -> None:
    """Ask the server to end; return when it reports that it does."""
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not ready(server), GRACE_SECONDS)


def test_a_server_that_ends_is_unready_and_still_answers_and_then_ends_without_an_error(server: Server) -> None:
    end(server)
    assert httpx.get(f"{server.address}/livez").status_code == 200
    response = httpx.post(server.address + PATH, json={"data": [{}]})
    assert response.status_code == 200
    assert response.headers["connection"] == "close"
    assert server.process.wait(STOP_SECONDS) == 0


def test_a_large_request_is_answered_past_the_time_of_grace(server: Server) -> None:
    body = json.dumps({"data": [{"x0": 0.5}] * 10_000}).encode()

    def half_before_and_half_after_the_end() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        end(server)
        time.sleep(GRACE_SECONDS + 0.5)
        yield body[len(body) // 2 :]

    response = httpx.post(
        server.address + PATH, content=half_before_and_half_after_the_end(), headers=JSON, timeout=STOP_SECONDS
    )
    assert response.status_code == 200
    assert len(response.json()["class_probability"]) == 10_000
    assert server.process.wait(STOP_SECONDS) == 0


def test_clients_that_have_left_do_not_delay_the_end(store: Path) -> None:
    with started_server(store, ENV | {"TIFFIN_TIMEOUT_SECONDS": "60"}) as server:
        address = httpx.URL(server.address)
        with socket.create_connection((address.host, address.port)) as connection:
            connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: {address.host}\r\nContent-Length: 99\r\n\r\n{{".encode())
        wait_until(lambda: 'status="499"' in httpx.get(f"{server.address}/metrics").text, STOP_SECONDS)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(STOP_SECONDS / 2) == 0


def test_a_worker_that_is_killed_is_replaced_and_what_it_held_is_no_longer_reported(lasting: Server) -> None:
    def cached_bytes() -> set[str]:
        lines = httpx.get(f"{lasting.address}/metrics").text.splitlines()
        return {line for line in lines if line.startswith("tiffin_cache_bytes")}

    assert answers(lasting)
    held = cached_bytes()
    kill_worker(lasting)
    assert answers(lasting)  # the same request, so the new worker holds as much
    assert cached_bytes() == held


def kill_worker(server: Server) -> None:
    """Kill the server's worker; return when a new one responds."""
    (worker,) = workers(server)
    psutil.Process(worker).kill()
    wait_until(lambda: worker not in workers(server) and answers(server), RESTART_SECONDS)


def workers(server: Server) -> set[int]:
    """Return the ids of the worker processes."""
    found = set()
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has ended
            if "_bentoml_impl.worker.service" in child.cmdline():
                found.add(child.pid)
    return found


class Balancer:
    """A TCP load balancer that forwards new connections to the servers that are ready, in turn."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.ready: list[Server] = []
        self.passed: dict[str, int] = {}

    async def watch(self) -> None:
        """Poll the readiness of the servers."""
        async with httpx.AsyncClient(verify=False) as client:
            while True:
                self.ready = [server for server in self.servers if await self.is_ready(client, server)]
                await asyncio.sleep(0.05)

    async def is_ready(self, client: httpx.AsyncClient, server: Server) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await client.get(f"{server.address}/readyz")).status_code == 200
        return False

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = self.ready[sum(self.passed.values()) % len(self.ready)].address
        self.passed[address] = self.passed.get(address, 0) + 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", httpx.URL(address).port)
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """Listen for connections; yield the address."""
        watch = asyncio.create_task(self.watch())
        async with await asyncio.start_server(self.connect, "127.0.0.1") as listener:
            yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        watch.cancel()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while chunk := await reader.read(2**16):
            writer.write(chunk)
            await writer.drain()


class Client:
    """A client that sends requests in sequence over a keep-alive connection."""

    def __init__(self) -> None:
        self.answered = 0
        self.failures: list[Any] = []
        self.ended = False

    async def use(self, address: str) -> None:
        async with httpx.AsyncClient(base_url=address, verify=False, timeout=STOP_SECONDS) as client:
            while not self.ended:
                try:
                    response = await client.post(PATH, json={"data": [{"x0": self.answered}]})
                except httpx.TransportError as error:
                    self.failures.append(error)
                else:
                    if response.status_code != 200:
                        self.failures.append(response.text)
                self.answered += 1


def test_no_request_fails_while_a_server_is_replaced(server: Server, lasting: Server) -> None:
    balancer = Balancer()
    clients = [Client() for _ in range(CLIENTS)]

    async def all_answered_again() -> None:
        goals = [client.answered + 5 for client in clients]
        async with asyncio.timeout(STOP_SECONDS):
            while any(client.answered < goal for client, goal in zip(clients, goals, strict=True)):
                await asyncio.sleep(0.02)

    async def replace() -> None:
        balancer.servers.append(server)
        async with balancer.listening() as address, asyncio.timeout(4 * STOP_SECONDS), asyncio.TaskGroup() as group:
            while not balancer.ready:
                await asyncio.sleep(0.02)
            for client in clients:
                group.create_task(client.use(address))
            await all_answered_again()
            balancer.servers.append(lasting)
            await all_answered_again()
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.process.wait, STOP_SECONDS)
            await all_answered_again()
            for client in clients:
                client.ended = True

    asyncio.run(replace())
    assert [failure for client in clients for failure in client.failures] == []
    assert len(balancer.passed) == 2
