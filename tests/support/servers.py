"""Tiffin server processes, ended by their process ids."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtest.processes import free_port, link_folder
from tests.support import ROOT

# No port for gRPC: that of each server would have to be another. No grace, for which each would be waited for.
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "TIFFIN_GRPC_PORT": "0", "TIFFIN_SHUTDOWN_GRACE_SECONDS": "0"}
START_SECONDS = 300
STOP_SECONDS = 120


@dataclass(frozen=True)
class Server:
    """A server process, its base URL and its log file."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def started_server(
    home: Path,
    env: Mapping[str, str] | None = None,
    *,
    bento: str = "service:Tiffin",
    cwd: Path = ROOT,
    python: str = sys.executable,
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end it by its process id.

    The server shares the models and Bentos of `home`, but has its own BentoML home, with its log and metrics. Unless
    `env` says otherwise, it has no port for gRPC, and ends without a time of grace.
    """
    own = Path(tempfile.mkdtemp(prefix="tiffin-home-"))
    for folder in ("models", "bentos"):
        (home / folder).mkdir(exist_ok=True)
        link_folder(own / folder, home / folder)
    port = free_port()
    log = own / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", "bentoml", "serve", bento, "--host", "127.0.0.1", "--port", str(port)],
            cwd=cwd,
            env={**os.environ, "BENTOML_HOME": str(own), **QUIET, **(env or {})},
            stdout=output,
            stderr=output,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, process, log)
        yield Server(address, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        shutil.rmtree(own)


@contextlib.contextmanager
def serving(home: Path, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[str]:
    """Start a server as `started_server` does; yield its address."""
    with started_server(home, env, **options) as server:
        yield server.address


def wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until /readyz answers 200; fail with the server's log when it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(
                f"the server ended with {process.returncode}:\n{log.read_text(encoding='utf-8', errors='replace')}"
            )
        with contextlib.suppress(httpx.TransportError):
            # Otherwise each of these polls would read all certificates of authorities, which takes 20 ms.
            if httpx.get(f"{address}/readyz", timeout=2, verify=False).status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail(
        f"the server was not ready after {START_SECONDS} s:\n{log.read_text(encoding='utf-8', errors='replace')}"
    )
