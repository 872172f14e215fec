"""The BentoML service: serves the models of `models/` at the routes that they declare."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

# Before anything that an older Python cannot read.
if sys.version_info < (3, 11):  # noqa: UP036
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sys.exit(f"Tiffin needs Python 3.11 or newer, this is {version}: make the virtual environment with a newer one")

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# glibc reads these when the workers start. By default threads fill heaps of their own, and large blocks, such as
# uploads, leave holes in them: memory then grows by a few per cent for hours.
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**20))

from serving.bento import start

start.set_environment()

import bentoml
from starlette.responses import Response
from starlette.routing import Route

import models
from models.model import Array
from serving.bento import protocol, store
from serving.bento.api import Answers, api_methods, infer_body
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.caching.redis_tier import RedisCache
from serving.http.access import FAILED_KEYS, ApiKeys, RateLimit
from serving.http.body import BytesInFlight
from serving.http.bounds import json_bound
from serving.http.cors import Cors
from serving.http.edge import Edge
from serving.http.endpoints import Endpoint, Guards
from serving.http.response_cache import ResponseCache
from serving.http.routes import file_fields, form_routes, json_routes
from serving.http.system import system_app
from serving.http.uploads import routes_of
from serving.inference.registry import Registry
from serving.inference.service import InferenceService
from serving.telemetry import logs, metrics, tracing

settings = start.read_settings()
start.prepare(settings.models)
protocol.install(settings.keep_alive_seconds, settings.body_timeout_seconds)
redis = None
if settings.redis_url is not None:
    from serving.caching.redis_client import RedisClient  # takes 0.3 s, which a start without Redis is spared

    redis = RedisClient(settings.redis_url.get_secret_value(), settings.redis_timeout_seconds)
registry = Registry()
limit = RateLimit(settings.rate_limit, redis, settings.redis_prefix) if settings.rate_limit else None
guards = Guards(
    ApiKeys([key.get_secret_value() for key in settings.api_keys], settings.api_keys_file),
    limit,
    ResponseCache(MemoryCache("response", settings.response_cache_max_bytes, settings.cache_ttl_seconds)),
    BytesInFlight(settings.max_in_flight_bytes),
    failed_keys=limit or RateLimit(FAILED_KEYS, None, settings.redis_prefix),
    trusted_proxies=settings.trusted_proxies,
)

# The most fields of a form, besides the files of `infer`.
MAX_FIELDS = 100

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
    envs=HASHES,
    workers=settings.workers,
    # The edge answers 504; BentoML's own time-out is the last resort. Each request leaves a timer
    # behind until it is over, so it is short.
    traffic={"timeout": settings.timeout_seconds + 5},
    # Costs 370 microseconds a request.
    tracing={"excluded_urls": ".*"},
    # BentoML's metrics are labelled with whatever path was asked for; the edge keeps its own.
    metrics={"enabled": False},
    # The edge writes these lines, with the id of the request.
    logging={"access": {"enabled": False}},
)
class Tiffin(Routes):  # type: ignore[misc, valid-type]
    """Trained models of different kinds behind REST routes."""

    def __init__(self) -> None:
        self.inference = InferenceService(registry)
        memory: MemoryCache[Array] = MemoryCache("predictions", settings.cache_max_bytes, settings.cache_ttl_seconds)
        shared = None
        if redis is not None and settings.cache_ttl_seconds:
            shared = RedisCache(redis, settings.redis_prefix, settings.cache_ttl_seconds)
        self.cache = PredictionCache(memory, shared)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load every model and have it answer once."""
        logs.configure(settings.access_log)
        metrics.forget_ended_workers()
        if settings.otel_exporter_otlp_endpoint is not None:
            version = str(Tiffin.bento.tag) if Tiffin.bento else "development"
            tracing.start(settings.otel_exporter_otlp_endpoint.get_secret_value(), version)
        for name in settings.models:
            own = settings.of(name)
            predictor = store.load(
                store.stored_model(name, Tiffin.bento),
                self.cache,
                own.session_threads,
                queue_items=own.queue_items,
                queue_seconds=own.queue_seconds,
                linger_seconds=own.linger_seconds,
                batch_share=own.batch_share,
                max_batch=own.max_batch,
                provider=settings.execution_provider,
            )
            await predictor.warm_up()
            registry.add(predictor)
        logs.log_start([str(predictor.id) for predictor in registry], settings.workers, settings.session_threads)
        drain_on_sigterm(asyncio.get_running_loop())
        # What is alive by now stays alive: collecting it again and again would make the slowest requests slow.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Release the threads of the models, and the connections."""
        registry.close()
        await self.cache.close()
        if redis is not None:
            await redis.close()
        tracing.stop()


def drain_on_sigterm(loop: asyncio.AbstractEventLoop) -> None:
    """Make the server unready at once on SIGTERM, but end it only after a time in which load balancers notice."""
    end = signal.getsignal(signal.SIGTERM)

    def drain(number: int, frame: FrameType | None) -> None:
        if not guards.draining and callable(end):
            guards.draining = True
            loop.call_soon_threadsafe(logs.log_end, settings.shutdown_grace_seconds)
            loop.call_soon_threadsafe(loop.call_later, settings.shutdown_grace_seconds, end, number, frame)

    signal.signal(signal.SIGTERM, drain)


def endpoints() -> dict[str, Endpoint]:
    """Return what the edge admits, by path."""
    found = {
        route.path: Endpoint("GET", public=not route.path.endswith("/info"))
        for route in system.routes
        if isinstance(route, Route)
    }
    arguments = (settings.models, registry, settings.timeout_seconds)
    answers: dict[str, Callable[[Any], Awaitable[Response]]] = {**json_routes(*arguments), **form_routes(*arguments)}
    declared = {f"/{name}/{route.name}": route for name in settings.models for route in routes_of(name)}
    for api in Tiffin.apis.values():
        route = declared.get(api.route)
        files = file_fields(api.input_spec)
        bound = json_bound(api.input_spec)
        name = api.route.split("/")[1]
        max_bytes = settings.max_upload_bytes if route and route.upload else settings.max_body_bytes
        if not files:
            max_bytes = min(max_bytes, bound.max_bytes)
        found[api.route] = Endpoint(
            "POST",
            (route and route.max_body_bytes) or max_bytes,
            max_values=bound.max_values,
            files=files,
            max_parts=MAX_FIELDS + models.find(name).max_items * (route is None),
            cacheable=route is None or route.cacheable,
            answer=answers.get(api.route),
            rewrite=None if files or api.route in answers else infer_body(name),
            version=partial(registry.version, name),
        )
    return found


def document() -> dict[str, Any]:
    """Return BentoML's OpenAPI document, with the largest body of each route."""
    described: dict[str, Any] = Tiffin.openapi_spec.asdict()
    for path, methods in described["paths"].items():
        if "post" in methods:
            methods["post"]["x-max-body-bytes"] = admitted[path].max_body_bytes
    return described


system = system_app(
    registry,
    settings.models,
    ready=lambda: len(registry) == len(settings.models) and not guards.draining,
    secured=guards.keys.required,
    document=document,
    schema=lambda: Tiffin.schema(),
)
admitted = endpoints()
# What is added first sees a request first.
if settings.cors_origins:
    Tiffin.add_asgi_middleware(Cors, origins=settings.cors_origins)
# BentoML itself serves the files of the page.
Tiffin.add_asgi_middleware(
    Edge,
    system=system,
    endpoints=admitted,
    passed_on=("/static_content/",),
    timeout_seconds=settings.timeout_seconds,
    body_timeout_seconds=settings.body_timeout_seconds,
    guards=guards,
)
