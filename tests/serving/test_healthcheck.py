"""The health check as the container runs it: a program that sends a server an HTTP request."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.processes import free_port
from serving import healthcheck
from tests.support import ROOT
from tests.support.clocks import START_SECONDS, wait_until
from tests.support.servers import started_server
from tests.support.tcp_servers import Handler, tcp_server


def check(port: int | str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-m", "serving.healthcheck", *arguments],
        cwd=ROOT,
        env={**os.environ, "PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("path", [(), ("/livez",), ("/readyz",)])
def test_a_server_is_healthy(server: str, path: tuple[str, ...]) -> None:
    done = check(server.rpartition(":")[2], *path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_that_ends_is_alive_but_not_ready(store: Path) -> None:
    env = {"TIFFIN_MODELS": "segmentation", "TIFFIN_SHUTDOWN_GRACE_SECONDS": "3"}
    with started_server(store, env) as server:
        port = server.address.rpartition(":")[2]
        server.process.terminate()
        wait_until(lambda: check(port, "/readyz").returncode == 1, 3)
        assert check(port).returncode == 0


def test_another_status_is_unhealthy(server: str) -> None:
    port = server.rpartition(":")[2]
    done = check(port, "/nothing")
    assert (done.returncode, done.stderr) == (1, f"port {port} answers /nothing with 404\n")


def test_where_nothing_listens_is_unhealthy() -> None:
    port = free_port()
    done = check(port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"port {port} does not answer /livez: ConnectionRefusedError")


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"no HTTP\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("handler", [silence, garbage])
def test_what_does_not_answer_as_a_server_is_unhealthy(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthcheck, "TIMEOUT_SECONDS", 0.5)
    with tcp_server(handler) as port:
        assert str(healthcheck.fault(port, "/livez")).startswith(f"port {port} does not answer /livez: ")


def test_it_needs_no_package() -> None:
    port = free_port()
    assert check(port, options=("-S",)).stderr.startswith(f"port {port} does not answer")
