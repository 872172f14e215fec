"""The container engine, containers of the image, and the podman overlay."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx
import pytest

from loadtest.processes import free_port

ENGINE = os.environ.get("BACKEND", "podman")
IMAGE = os.environ.get("IMAGE", "tiffin:latest")
# Generous, for a slow or busy machine.
COMMAND_SECONDS = 300
READY_SECONDS = 300


def engine(*arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of the container engine; fail the test when it exits with an error, unless `check` is false."""
    done = subprocess.run(
        [ENGINE, *arguments], input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if check and done.returncode:
        pytest.fail(f"{ENGINE} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@dataclass(frozen=True)
class Container:
    """A container, by its name or id, and the base URL of its server."""

    name: str
    address: str = ""

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return engine("exec", self.name, *command, check=check)

    def inspect(self, template: str) -> str:
        """Return what the engine reports about the container, formatted by a Go template."""
        return engine("inspect", "--format", template, self.name).stdout.strip()

    def log(self) -> str:
        """Return all that the container wrote to standard output and standard error."""
        done = engine("logs", self.name)
        return done.stdout + done.stderr

    def is_ready(self) -> bool:
        """Return whether the server answers /readyz with 200."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.address}/readyz", timeout=2).status_code == 200
        return False

    def wait_until_ready(self) -> None:
        """Wait until the server is ready; fail with the log after READY_SECONDS."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} is not ready after {READY_SECONDS} s:\n{self.log()}")
            time.sleep(0.02)


@contextlib.contextmanager
def hardened(
    image: str, *options: str, command: Sequence[str] = (), cpus: str = "2", memory: str = "2g"
) -> Iterator[Container]:
    """Run a container of the image as restricted as the manifests' pods; its server may not be ready yet."""
    port = free_port()
    limits = ["--cpus", cpus, "--memory", memory, "--memory-swap", memory]
    fetters = ["--read-only", "--volume", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    if ENGINE == "podman":
        fetters.append("--read-only-tmpfs=false")  # or podman would mount further writable folders
    started = engine(
        "run", "--detach", "--publish", f"127.0.0.1:{port}:3000", *limits, *fetters, *options, image, *command
    )
    container = Container(started.stdout.strip(), f"http://127.0.0.1:{port}")
    try:
        yield container
    finally:
        engine("kill", container.name, check=False)
        engine("rm", "--force", "--volumes", container.name)


class Pod:
    """The server and Redis containers of the podman overlay; `grpc_target` is HOST:PORT of gRPC."""

    def __init__(self, pod_id: str, address: str, grpc_target: str) -> None:
        self.address = address
        self.grpc_target = grpc_target
        names = engine("ps", "--all", "--filter", f"pod={pod_id}", "--format", "{{.Names}}").stdout.split()
        self.server, self.redis = (
            Container(next(name for name in names if name.endswith(ending)), address)
            for ending in ("-tiffin", "-redis")
        )

    def restart_server(self) -> None:
        """Restart the server gracefully; return when it is ready again, with empty caches in memory."""
        engine("restart", "--time", "30", self.server.name)
        self.server.wait_until_ready()

    def stop_redis(self) -> None:
        """Stop Redis."""
        engine("stop", "--time", "5", self.redis.name)

    def start_redis(self) -> None:
        """Start Redis again, with an empty database."""
        engine("start", self.redis.name)
