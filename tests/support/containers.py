"""The container engine, containers of the image, and the pod."""

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
# Of a machine that is slow, or busy with much else.
COMMAND_SECONDS = 300
READY_SECONDS = 300


def engine(*arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """What a command of the container engine ended with; fails when it does, unless `check` is false."""
    done = subprocess.run(
        [ENGINE, *arguments], input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
    )
    if check and done.returncode:
        pytest.fail(f"{ENGINE} {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


@dataclass(frozen=True)
class Container:
    """A container, by its name or id, and where its server is found."""

    name: str
    address: str = ""

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return engine("exec", self.name, *command, check=check)

    def inspect(self, template: str) -> str:
        """What the engine knows of it."""
        return engine("inspect", "--format", template, self.name).stdout.strip()

    def log(self) -> str:
        """What it has written."""
        done = engine("logs", self.name)
        return done.stdout + done.stderr

    def is_ready(self) -> bool:
        """Whether its server says so."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.address}/readyz", timeout=2).status_code == 200
        return False

    def wait_until_ready(self) -> None:
        """Return when its server is ready; fail with the log when that takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} is not ready after {READY_SECONDS} s:\n{self.log()}")
            time.sleep(0.02)


@contextlib.contextmanager
def hardened(
    image: str, *options: str, command: Sequence[str] = (), cpus: str = "2", memory: str = "2g"
) -> Iterator[Container]:
    """A container of the image that may do as little as a pod of the manifests; its server may not be ready yet."""
    port = free_port()
    limits = ["--cpus", cpus, "--memory", memory, "--memory-swap", memory]
    fetters = ["--read-only", "--volume", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
    if ENGINE == "podman":
        fetters.append("--read-only-tmpfs=false")  # it has other folders for temporary files, too
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
    """The pod of the overlay for podman: server and Redis."""

    def __init__(self, pod_id: str, address: str) -> None:
        self.address = address
        names = engine("ps", "--all", "--filter", f"pod={pod_id}", "--format", "{{.Names}}").stdout.split()
        self.server, self.redis = (
            Container(next(name for name in names if name.endswith(ending)), address)
            for ending in ("-tiffin", "-redis")
        )

    def restart_server(self) -> None:
        """End the server in order, and return when another is ready, with an empty memory."""
        engine("restart", "--time", "30", self.server.name)
        self.server.wait_until_ready()

    def stop_redis(self) -> None:
        """Let Redis be gone."""
        engine("stop", "--time", "5", self.redis.name)

    def start_redis(self) -> None:
        """Let Redis, which has forgotten everything, be there again."""
        engine("start", self.redis.name)
