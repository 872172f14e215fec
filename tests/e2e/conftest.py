"""What the tests of image and pod share: the container engine, containers of the image, the pod."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx
import pytest

from loadtest.processes import free_port
from tests.conftest import ROOT

ENGINE = os.environ.get("BACKEND", "podman")
IMAGE = os.environ.get("IMAGE", "tiffin:latest")
# Of a machine that is slow, or busy with much else.
COMMAND_SECONDS = 300
READY_SECONDS = 300
OVERLAY = ROOT / "k8s" / "overlays" / "podman"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pod: needs the pod, so podman and kubectl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "pod" in getattr(item, "fixturenames", ()):
            item.add_marker("pod")


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


@pytest.fixture(scope="session")
def image() -> str:
    """Name of the image; ends the run with 2 where engine or image are missing."""
    if shutil.which(ENGINE) is None:
        pytest.exit(f"these tests need {ENGINE}", returncode=2)
    if engine("image", "inspect", IMAGE, check=False).returncode:
        pytest.exit(f"these tests need the image {IMAGE}: make image BACKEND={ENGINE}", returncode=2)
    return IMAGE


@pytest.fixture(scope="session")
def container(image: str) -> Iterator[Container]:
    """A hardened container with all models that is ready."""
    with hardened(image) as container:
        container.wait_until_ready()
        yield container


@pytest.fixture(scope="session")
def server(container: Container) -> str:
    """Address of `container`, for the tests that are made for any server."""
    return container.address


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


@pytest.fixture(scope="session")
def pod(image: str) -> Iterator[Pod]:
    """The pod, ready, at a free port."""
    if shutil.which("kubectl") is None:
        pytest.exit("the tests of the pod need kubectl", returncode=2)
    rendered = subprocess.run(
        ["kubectl", "kustomize", OVERLAY], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
    ).stdout
    port = free_port()
    manifest = re.sub(r"hostPort: \d+", f"hostPort: {port}", rendered)
    # Longer than the default, within which a machine that is busy may not answer.
    manifest = manifest.replace("  TIFFIN_REDIS_URL:", '  TIFFIN_REDIS_TIMEOUT_SECONDS: "1"\n  TIFFIN_REDIS_URL:')
    volumes = set(engine("volume", "ls", "--quiet").stdout.split())
    try:
        played = engine("kube", "play", "-", stdin=manifest).stdout.split()
        pod = Pod(played[played.index("Pod:") + 1], f"http://127.0.0.1:{port}")
        pod.server.wait_until_ready()
        yield pod
    finally:
        engine("kube", "down", "-", stdin=manifest)
        # The folders that were empty stay else, for the next pod.
        for volume in set(engine("volume", "ls", "--quiet").stdout.split()) - volumes:
            engine("volume", "rm", volume, check=False)
