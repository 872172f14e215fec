"""The BentoML service: serves the models of `models/` at the routes that they declare."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

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
from starlette.routing import Route
from starlette.types import ASGIApp

from models.model import Array
from serving.bento import grpc_start, protocol, store
from serving.bento.api import InferenceApi, api_methods
from serving.bento.document import openapi_document
from serving.bento.errors import UniformErrors
from serving.bento.infer import InferEndpoint
from serving.bento.loading import loaded
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.caching.redis_tier import RedisCache
from serving.explanations import ExplanationService
from serving.http.access import FAILED_KEYS, ApiKeys, RateLimit
from serving.http.aliases import aliases_of
from serving.http.application import application
from serving.http.body import BytesInFlight
from serving.http.guards import Guards
from serving.http.jobs.openapi import with_tasks
from serving.http.lifecycle import Lifecycle
from serving.http.openapi import complete
from serving.http.routes import accepted_bodies, model_routes
from serving.http.system import info_routes, static_files, system_routes
from serving.http.v2.routes import accepted_requests, v2_routes
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService
from serving.oip.repository import Repository, refusal
from serving.oip.service import TensorInference
from serving.telemetry import logs, metrics, tracing

if TYPE_CHECKING:
    from serving.grpc.server import GrpcServer

settings = start.read_settings()
start.share_metrics(settings.workers)
start.prepare(settings.models)
grpc_start.prepare(settings)
protocol.install(settings.keep_alive_seconds, settings.body_timeout_seconds)
redis = None
if settings.redis_url is not None:
    from serving.caching.redis_client import RedisClient  # takes 0.3 s, which a start without Redis is spared

    redis = RedisClient(settings.redis_url.get_secret_value(), settings.redis_timeout_seconds)
registry = Registry()
inference = InferenceService(registry)
explanations = ExplanationService()
tensors = TensorInference(inference)
lifecycle = Lifecycle()
limit = RateLimit(settings.rate_limit, redis, settings.redis_prefix) if settings.rate_limit else None
memory: MemoryCache[Array] = MemoryCache("predictions", settings.cache_max_bytes, settings.cache_ttl_seconds)
shared = None
if redis is not None and settings.cache_ttl_seconds:
    shared = RedisCache(redis, settings.redis_prefix, settings.cache_ttl_seconds)
cache = PredictionCache(memory, shared)
jobs = None
if settings.job_store is not None:
    from serving.jobs.background import BackgroundJobs

    jobs = BackgroundJobs(settings, registry, has_worker=settings.has_job_worker, root_path=settings.root_path)
guards = Guards(
    ApiKeys([key.get_secret_value() for key in settings.api_keys], settings.api_keys_file),
    limit,
    MemoryCache("response", settings.response_cache_max_bytes, settings.cache_ttl_seconds),
    BytesInFlight(settings.max_in_flight_bytes),
    failed_keys=limit or RateLimit(FAILED_KEYS, None, settings.redis_prefix),
    trusted_proxies=settings.trusted_proxies,
)

accepted = accepted_bodies(settings.names, settings.max_body_bytes, settings.max_upload_bytes)
accepted_v2 = accepted_requests(settings.names, settings.max_body_bytes)

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
    (InferenceApi,),
    {
        **api_methods(settings.names, settings.timeout_seconds, settings.pinned),
        **{f"stored_{entry}": bentoml.models.BentoModel(entry) for entry in settings.models},
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
        self.inference = inference
        self.explanations = explanations
        self.grpc: GrpcServer | None = None

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def start(self) -> None:
        """Load every model and have it answer once."""
        logs.configure(settings.access_log)
        metrics.forget_ended_workers()
        if settings.otel_exporter_otlp_endpoint is not None:
            tracing.start(settings.otel_exporter_otlp_endpoint.get_secret_value(), own_version())
        if settings.grpc_port:
            self.grpc = grpc_server()
            await self.grpc.start()
        for stored in store.stored_models(settings.models, Tiffin.bento):
            registry.add(await loaded(stored, cache, settings))
        lifecycle.loaded = True
        serving = [str(predictor.id) for predictor in registry]
        logs.log_start(serving, settings.workers, settings.session_threads, settings.grpc_port)
        if settings.model_control and repository.refusal:
            logging.getLogger("tiffin.repository").warning(repository.refusal)
        if self.grpc is not None:
            self.grpc.health.refresh()
        if jobs is not None:
            jobs.start()
        drain_on_sigterm(asyncio.get_running_loop(), self.grpc)
        # What is alive by now stays alive: collecting it again and again would make the slowest requests slow.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def stop(self) -> None:
        """Release the threads of the models, and the connections."""
        if self.grpc is not None:
            await self.grpc.stop(settings.timeout_seconds)
        if jobs is not None:
            await jobs.stop(grace_seconds=0)
        registry.close()
        await cache.close()
        if redis is not None:
            await redis.close()
        tracing.stop()


async def load(model_id: ModelId) -> Predictor:
    """Load a version of a model while the server answers requests."""
    return await loaded(await asyncio.to_thread(store.stored_model, str(model_id), None), cache, settings)


def own_version() -> str:
    """Return the tag of the Bento that is served."""
    return str(Tiffin.bento.tag) if Tiffin.bento else "development"


def drain_on_sigterm(loop: asyncio.AbstractEventLoop, grpc: GrpcServer | None) -> None:
    """Make the server unready at once on SIGTERM, but end it only after a time in which load balancers notice."""
    end = signal.getsignal(signal.SIGTERM)

    def begin() -> None:
        logs.log_end(settings.shutdown_grace_seconds)
        if jobs is not None:
            jobs.drain()
        if grpc is not None:
            grpc.drain(settings.shutdown_grace_seconds, settings.timeout_seconds)

    def drain(number: int, frame: FrameType | None) -> None:
        if not lifecycle.draining and callable(end):
            lifecycle.draining = True
            loop.call_soon_threadsafe(begin)
            loop.call_soon_threadsafe(loop.call_later, settings.shutdown_grace_seconds, end, number, frame)

    signal.signal(signal.SIGTERM, drain)


repository = Repository(
    registry,
    settings.names,
    lambda: store.versions(settings.names),
    load,
    refusal(allowed=settings.model_control, has_keys=guards.keys.required, workers=settings.workers),
)


def grpc_server() -> GrpcServer:
    """Return the server of gRPC, which is yet to be started."""
    from serving.grpc.server import GrpcServer, Tls  # takes 0.3 s, which a start without gRPC is spared
    from serving.grpc.servicer import Servicer

    tls = None
    if settings.grpc_tls_certificate is not None and settings.grpc_tls_key is not None:
        tls = Tls(settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca)
    return GrpcServer(
        grpc_start.address(settings),
        Servicer(settings.names, tensors, repository, accepted_v2, lifecycle, own_version),
        guards,
        timeout_seconds=settings.timeout_seconds,
        message_seconds=settings.body_timeout_seconds,
        idle_seconds=settings.keep_alive_seconds,
        connection_seconds=settings.grpc_connection_seconds,
        shared=settings.workers > 1,
        tls=tls,
    )


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return complete(
        openapi_document(Tiffin),
        settings.names,
        registry,
        accepted,
        accepted_v2=accepted_v2,
        has_jobs=jobs is not None,
        root_path=settings.root_path,
        default_model=settings.default_model,
        secured=guards.keys.required,
    )


def schema() -> dict[str, Any]:
    """Return what BentoML's clients ask for: the service's API methods, and the tasks."""
    found: dict[str, Any] = Tiffin.schema()
    return found if jobs is None else with_tasks(found, settings.names)


def task_routes() -> list[Route]:
    """Return the routes of background jobs, where there is a store for them."""
    if jobs is None:
        return []
    from serving.http.jobs.routes import job_routes

    return job_routes(settings.names, registry, accepted, guards, jobs)


def edge(app: ASGIApp) -> ASGIApp:
    """Return what answers requests, of which BentoML's `app` answers those to `infer` and to the files of the page."""

    def infer(name: str) -> ASGIApp:
        return InferEndpoint(app, name, accepted[f"/{name}/infer"], registry, settings.pinned.get(name, ()))

    return application(
        app,
        [
            *model_routes(settings.names, registry, accepted, guards, infer, settings.timeout_seconds, explanations),
            *v2_routes(
                settings.names,
                tensors,
                accepted_v2,
                guards,
                repository,
                own_version,
                lambda: lifecycle.ready,
            ),
            *task_routes(),
            *info_routes(settings.names, registry, guards.admission()),
            *system_routes(lambda: lifecycle.ready, document, schema),
            static_files(UniformErrors(app)),
        ],
        lifecycle,
        timeout_seconds=settings.timeout_seconds,
        body_timeout_seconds=settings.body_timeout_seconds,
        root_path=settings.root_path,
        cors_origins=settings.cors_origins,
        aliases=aliases_of(settings.default_model),
    )


Tiffin.add_asgi_middleware(edge)
