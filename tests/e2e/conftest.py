"""Fixtures of the image, of a container and of the pod; tests that use the pod get the marker `pod`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from loadtest.processes import free_port
from tests.support import ROOT
from tests.support.containers import COMMAND_SECONDS, ENGINE, IMAGE, Container, Pod, engine, hardened

OVERLAY = ROOT / "k8s" / "overlays" / "podman"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pod: needs the pod, so podman and kubectl")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "pod" in getattr(item, "fixturenames", ()):
            item.add_marker("pod")


@pytest.fixture(scope="session")
def image() -> str:
    """Return the name of the image; end the run with 2 if the engine or the image is missing."""
    if shutil.which(ENGINE) is None:
        pytest.exit(f"these tests need {ENGINE}", returncode=2)
    if engine("image", "inspect", IMAGE, check=False).returncode:
        pytest.exit(f"these tests need the image {IMAGE}: make image BACKEND={ENGINE}", returncode=2)
    return IMAGE


@pytest.fixture(scope="session")
def container(image: str) -> Iterator[Container]:
    """Yield a hardened container with all models, ready."""
    with hardened(image) as container:
        container.wait_until_ready()
        yield container


@pytest.fixture(scope="session")
def server(container: Container) -> str:
    """Return the address of `container`, for tests that take any server."""
    return container.address


@pytest.fixture(scope="session")
def pod(image: str) -> Iterator[Pod]:
    """Yield the pod, ready, at a free port."""
    if shutil.which("kubectl") is None:
        pytest.exit("the tests of the pod need kubectl", returncode=2)
    rendered = subprocess.run(
        ["kubectl", "kustomize", OVERLAY], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
    ).stdout
    port, grpc_port = free_port(), free_port()
    manifest = rendered.replace("hostPort: 3000", f"hostPort: {port}")
    manifest = manifest.replace("hostPort: 8001", f"hostPort: {grpc_port}")
    # Longer than the default, which Redis may exceed on a busy machine; and jobs, which the server itself computes.
    changed = '  TIFFIN_JOB_STORE: /tmp/jobs\n  TIFFIN_REDIS_TIMEOUT_SECONDS: "1"\n  TIFFIN_REDIS_URL:'
    manifest = manifest.replace("  TIFFIN_REDIS_URL:", changed)
    volumes = set(engine("volume", "ls", "--quiet").stdout.split())
    try:
        played = engine("kube", "play", "-", stdin=manifest).stdout.split()
        pod_id = played[played.index("Pod:") + 1]
        pod = Pod(pod_id, f"http://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}")
        pod.server.wait_until_ready()
        yield pod
    finally:
        engine("kube", "down", "-", stdin=manifest)
        # Volumes of empty folders would otherwise stay for the next pod.
        for volume in set(engine("volume", "ls", "--quiet").stdout.split()) - volumes:
            engine("volume", "rm", volume, check=False)
