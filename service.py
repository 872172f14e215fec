"""The BentoML service: serves the models of `models/` at the routes that they declare."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

# Before anything that an older Python cannot read.
if sys.version_info < (3, 11):  # noqa: UP036
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"Tiffin needs Python 3.11 or newer, this is {version}: make the virtual environment with a newer one")

# Collecting garbage all the time makes the start and the slowest requests a tenth slower.
gc.set_threshold(50_000, 50, 100)
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# glibc reads these when the workers start. By default threads fill heaps of their own, and large blocks, such as
# uploads, leave holes in them: memory then grows by a few per cent for hours.
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))

from serving.bento import start

start.set_environment()

import bentoml

from serving.bento import grpc_start

settings = start.read_settings()
start.share_metrics(settings.workers)
start.prepare(settings.models)
grpc_start.prepare(settings)

REQUIREMENTS = Path(__file__).parent / "requirements"
packages = [
    line for line in (REQUIREMENTS / "serving.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
]
image = (
    bentoml.images.Image(
        base_image="python:3.11-slim", distro="none", python_version="3.11", lock_python_packages=False
    )
    .python_packages(*packages)
    .build_include("requirements/serving.lock")
)
# They make uv, which installs the packages into the image, insist on the hashes in the file.
HASHES = [{"name": "UV_CONSTRAINT", "value": "requirements/serving.lock"}, {"name": "UV_REQUIRE_HASHES", "value": "1"}]

# The routes of the models to be served, and these models, to be packed into the Bento.
members: dict[str, Any] = {}
if not start.only_starts_workers():
    from serving.bento.api import api_methods
    from serving.bento.server import Server

    server = Server(settings)
    members = {
        "inference": server.inference,
        "explanations": server.explanations,
        **api_methods(settings.names, settings.timeout_seconds, settings.pinned),
        **{f"stored_{entry}": bentoml.models.BentoModel(entry) for entry in settings.models},
    }


@bentoml.service(
    name="tiffin",
    image=image,
    envs=HASHES,
    workers=settings.workers,
    # The edge answers 504; where a server does not speak to it directly, BentoML's own time-out is the last resort.
    traffic={"timeout": settings.timeout_seconds + 5},
    # Costs 370 microseconds a request.
    tracing={"excluded_urls": ".*"},
    # BentoML's metrics are labelled with whatever path was asked for; the edge keeps its own.
    metrics={"enabled": False},
    # The edge writes these lines, with the id of the request.
    logging={"access": {"enabled": False}},
)
class Tiffin(type("Routes", (), members)):  # type: ignore[misc]
    """Trained models of different kinds behind REST routes."""

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load every model and have it answer once."""
        await server.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Release the threads of the models, and the connections."""
        await server.stop()


if not start.only_starts_workers():
    server.service = Tiffin
    Tiffin.add_asgi_middleware(server.edge)
