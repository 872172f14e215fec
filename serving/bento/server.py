"""What a worker puts together by its settings: the caches, the engine, the routes, and the server of gRPC."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from types import FrameType
from typing import TYPE_CHECKING, Any

import bentoml
from starlette.routing import Route
from starlette.types import ASGIApp

from models.model import Array
from serving.bento import grpc_start, protocol, store
from serving.bento.document import openapi_document
from serving.bento.errors import UniformErrors
from serving.bento.infer import InferEndpoint
from serving.bento.loading import load_all, loaded, versions
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
from serving.http.page import page_routes
from serving.http.routes import accepted_bodies, model_routes
from serving.http.system import info_routes, static_files, system_routes
from serving.http.v2.routes import accepted_requests, v2_routes
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService
from serving.oip.repository import Repository, refusal
from serving.oip.service import TensorInference
from serving.settings import Settings
from serving.telemetry import logs, metrics, tracing

if TYPE_CHECKING:
    from serving.grpc.server import GrpcServer


class Server:
    """The parts of a server and how they hang together; `service` is the BentoML service whose requests it answers."""

    service: bentoml.Service[Any]

    def __init__(self, settings: Settings) -> None:
        protocol.install(settings.keep_alive_seconds, settings.body_timeout_seconds)
        self.settings = settings
        self.redis = None
        if settings.redis_url is not None:
            from serving.caching.redis_client import RedisClient  # takes 0.3 s, which a start without Redis is spared

            self.redis = RedisClient(settings.redis_url.get_secret_value(), settings.redis_timeout_seconds)
        self.cache = self.prediction_cache()
        self.registry = Registry()
        self.inference = InferenceService(self.registry)
        self.explanations = ExplanationService()
        self.tensors = TensorInference(self.inference)
        self.lifecycle = Lifecycle()
        self.guards = self.made_guards()
        self.jobs = None
        if settings.job_store is not None:
            from serving.jobs.background import BackgroundJobs

            self.jobs = BackgroundJobs(
                settings, self.registry, has_worker=settings.has_job_worker, root_path=settings.root_path
            )
        self.accepted = accepted_bodies(settings.names, settings.max_body_bytes, settings.max_upload_bytes)
        self.accepted_v2 = accepted_requests(settings.names, settings.max_body_bytes)
        self.repository = Repository(
            self.registry,
            settings.names,
            lambda: versions(settings.names),
            self.load,
            refusal(allowed=settings.model_control, has_keys=self.guards.keys.required, workers=settings.workers),
        )
        self.grpc: GrpcServer | None = None

    def prediction_cache(self) -> PredictionCache:
        """Return the cache of predictions, in memory and, where there is one, in Redis."""
        settings = self.settings
        memory: MemoryCache[Array] = MemoryCache("predictions", settings.cache_max_bytes, settings.cache_ttl_seconds)
        shared = None
        if self.redis is not None and settings.cache_ttl_seconds:
            shared = RedisCache(self.redis, settings.redis_prefix, settings.cache_ttl_seconds)
        return PredictionCache(memory, shared)

    def made_guards(self) -> Guards:
        """Return what keeps requests from the routes of the models."""
        settings = self.settings
        limit = RateLimit(settings.rate_limit, self.redis, settings.redis_prefix) if settings.rate_limit else None
        return Guards(
            ApiKeys([key.get_secret_value() for key in settings.api_keys], settings.api_keys_file),
            limit,
            MemoryCache("response", settings.response_cache_max_bytes, settings.cache_ttl_seconds),
            BytesInFlight(settings.max_in_flight_bytes),
            failed_keys=limit or RateLimit(FAILED_KEYS, None, settings.redis_prefix),
            trusted_proxies=settings.trusted_proxies,
        )

    async def start(self) -> None:
        """Load every model and have it answer once."""
        settings = self.settings
        logs.configure(settings.access_log)
        metrics.forget_ended_workers()
        if settings.otel_exporter_otlp_endpoint is not None:
            tracing.start(settings.otel_exporter_otlp_endpoint.get_secret_value(), self.own_version())
        if settings.grpc_port:
            self.grpc = self.grpc_server()
            await self.grpc.start()
        for predictor in await load_all(store.stored_models(settings.models, self.service.bento), self.cache, settings):
            self.registry.add(predictor)
        self.lifecycle.loaded = True
        serving = [str(predictor.id) for predictor in self.registry]
        logs.log_start(serving, settings.workers, settings.session_threads, settings.grpc_port)
        if settings.model_control and self.repository.refusal:
            logging.getLogger("tiffin.repository").warning(self.repository.refusal)
        if self.grpc is not None:
            self.grpc.health.refresh()
        if self.jobs is not None:
            self.jobs.start()
        self.drain_on_sigterm(asyncio.get_running_loop())
        # What is alive by now stays alive: collecting it again and again would make the slowest requests slow.
        gc.collect()
        gc.freeze()

    async def stop(self) -> None:
        """Release the threads of the models, and the connections."""
        if self.grpc is not None:
            await self.grpc.stop(self.settings.timeout_seconds)
        if self.jobs is not None:
            await self.jobs.stop(grace_seconds=0)
        self.registry.close()
        await self.cache.close()
        if self.redis is not None:
            await self.redis.close()
        tracing.stop()

    async def load(self, model_id: ModelId) -> Predictor:
        """Load a version of a model while the server answers requests."""
        stored = await asyncio.to_thread(store.stored_model, str(model_id), None)
        return await loaded(stored, self.cache, self.settings)

    def own_version(self) -> str:
        """Return the tag of the Bento that is served."""
        return str(self.service.bento.tag) if self.service.bento else "development"

    def drain_on_sigterm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the server unready at once on SIGTERM, but end it only after a time in which load balancers notice."""
        settings = self.settings
        end = signal.getsignal(signal.SIGTERM)

        def begin() -> None:
            logs.log_end(settings.shutdown_grace_seconds)
            if self.jobs is not None:
                self.jobs.drain()
            if self.grpc is not None:
                self.grpc.drain(settings.shutdown_grace_seconds, settings.timeout_seconds)

        def drain(number: int, frame: FrameType | None) -> None:
            if not self.lifecycle.draining and callable(end):
                self.lifecycle.draining = True
                loop.call_soon_threadsafe(begin)
                loop.call_soon_threadsafe(loop.call_later, settings.shutdown_grace_seconds, end, number, frame)

        signal.signal(signal.SIGTERM, drain)

    def grpc_server(self) -> GrpcServer:
        """Return the server of gRPC, which is yet to be started."""
        from serving.grpc.server import GrpcServer, Tls  # takes 0.3 s, which a start without gRPC is spared
        from serving.grpc.servicer import Servicer

        settings = self.settings
        tls = None
        if settings.grpc_tls_certificate is not None and settings.grpc_tls_key is not None:
            tls = Tls(settings.grpc_tls_certificate, settings.grpc_tls_key, settings.grpc_tls_client_ca)
        return GrpcServer(
            grpc_start.address(settings),
            Servicer(settings.names, self.tensors, self.repository, self.accepted_v2, self.lifecycle, self.own_version),
            self.guards,
            timeout_seconds=settings.timeout_seconds,
            message_seconds=settings.body_timeout_seconds,
            idle_seconds=settings.keep_alive_seconds,
            connection_seconds=settings.grpc_connection_seconds,
            shared=settings.workers > 1,
            tls=tls,
        )

    def document(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        settings = self.settings
        return complete(
            openapi_document(self.service),
            settings.names,
            self.registry,
            self.accepted,
            accepted_v2=self.accepted_v2,
            has_jobs=self.jobs is not None,
            root_path=settings.root_path,
            default_model=settings.default_model,
            secured=self.guards.keys.required,
        )

    def schema(self) -> dict[str, Any]:
        """Return what BentoML's clients ask for: the service's API methods, and the tasks."""
        found: dict[str, Any] = self.service.schema()
        return found if self.jobs is None else with_tasks(found, self.settings.names)

    def task_routes(self) -> list[Route]:
        """Return the routes of background jobs, where there is a store for them."""
        if self.jobs is None:
            return []
        from serving.http.jobs.routes import job_routes

        return job_routes(self.settings.names, self.registry, self.accepted, self.guards, self.jobs)

    def edge(self, app: ASGIApp) -> ASGIApp:
        """Return what answers requests, also directly, of which BentoML's `app` answers `infer` and Swagger's files."""
        settings, registry, guards, lifecycle = self.settings, self.registry, self.guards, self.lifecycle

        def infer(name: str) -> ASGIApp:
            return InferEndpoint(app, name, self.accepted[f"/{name}/infer"], registry, settings.pinned.get(name, ()))

        edge = protocol.HttpProtocol.edge = application(
            app,
            [
                *model_routes(
                    settings.names, registry, self.accepted, guards, infer, settings.timeout_seconds, self.explanations
                ),
                *v2_routes(
                    settings.names,
                    self.tensors,
                    self.accepted_v2,
                    guards,
                    self.repository,
                    self.own_version,
                    lambda: lifecycle.ready,
                ),
                *self.task_routes(),
                *info_routes(settings.names, registry, guards.admission()),
                *page_routes(),
                *system_routes(lambda: lifecycle.ready, self.document, self.schema),
                static_files(UniformErrors(app)),
            ],
            lifecycle,
            timeout_seconds=settings.timeout_seconds,
            body_timeout_seconds=settings.body_timeout_seconds,
            root_path=settings.root_path,
            cors_origins=settings.cors_origins,
            aliases=aliases_of(settings.names, settings.default_model),
        )
        return edge
