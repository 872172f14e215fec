"""The BentoML service: serves the models of `models/` at the routes that they declare."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from starlette.routing import Route

import models
from serving.api import Answers, api_methods, file_fields
from serving.cache import MemoryCache
from serving.edge import Edge, Endpoint
from serving.errors import bentoml_log, is_server_fault
from serving.predictor import Predictor, stored_model
from serving.settings import Settings
from serving.system import system_app

settings = Settings()
predictors: dict[str, Predictor] = {}

requirements = (Path(__file__).parent / "requirements" / "serving.txt").read_text(encoding="utf-8").splitlines()
image = bentoml.images.Image(
    base_image="python:3.11-slim", distro="none", python_version="3.11", lock_python_packages=False
).python_packages(*(line for line in requirements if line and not line.startswith("#")))

# The routes of the models to be served, and these models, to be packed into the Bento.
Routes = type(
    "Routes",
    (Answers,),
    {
        **api_methods(settings.models, settings.timeout_seconds),
        **{f"stored_{name}": bentoml.models.BentoModel(f"{name}:latest") for name in settings.models},
    },
)


@bentoml.service(
    name="tiffin",
    image=image,
    workers=settings.workers,
    # The edge answers 504; BentoML's own time-out is the last resort. Each request leaves a
    # timer until it is over, so it is short.
    traffic={"timeout": settings.timeout_seconds + 5},
    # Costs 370 microseconds a request.
    tracing={"excluded_urls": ".*"},
    # BentoML's metrics are labelled with whatever path was asked for; the edge keeps its own.
    metrics={"enabled": False},
    logging={"access": {"enabled": settings.access_log}},
)
class Tiffin(Routes):  # type: ignore[misc, valid-type]
    """Trained models of different kinds behind REST routes."""

    def __init__(self) -> None:
        self.predictors = predictors

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load every model and have it answer once."""
        bentoml_log.addFilter(is_server_fault)
        cache = MemoryCache(settings.cache_max_bytes, settings.cache_ttl_seconds)
        for name in settings.models:
            predictor = Predictor(name, stored_model(name, Tiffin.bento), cache, settings.session_threads)
            await predictor.warm_up()
            predictors[name] = predictor
        # What lives by now lives for good: collecting it again and again makes the slowest requests slow.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Release the threads of the models."""
        for predictor in predictors.values():
            predictor.close()


def endpoints() -> dict[str, Endpoint]:
    """What the edge admits, by path."""
    found = {route.path: Endpoint("GET") for route in system.routes if isinstance(route, Route)}
    uploads = {
        f"/{name}/{route.name}" for name in settings.models for route in models.find(name).routes() if route.upload
    }
    for api in Tiffin.apis.values():
        limit = settings.max_upload_bytes if api.route in uploads else settings.max_body_bytes
        found[api.route] = Endpoint("POST", limit, file_fields(api.input_spec))
    return found


system = system_app(
    predictors,
    settings.models,
    ready=lambda: len(predictors) == len(settings.models),
    document=lambda: Tiffin.openapi_spec.asdict(),
)
# BentoML itself answers its clients' request for the schema, and the files of the page.
Tiffin.add_asgi_middleware(
    Edge,
    system=system,
    endpoints=endpoints(),
    passed_on=("/schema.json", "/static_content/"),
    timeout_seconds=settings.timeout_seconds,
)
