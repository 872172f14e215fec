"""The order of the middlewares, from what first sees a request to the route that answers it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys, RateLimit
from serving.http.body import BytesInFlight
from serving.http.endpoints import Accepted
from serving.http.lifecycle import Lifecycle
from serving.http.middleware.body import BodyMiddleware
from serving.http.middleware.cors import Cors
from serving.http.middleware.deadline import DeadlineMiddleware
from serving.http.middleware.errors import ErrorsMiddleware
from serving.http.middleware.guard import GuardMiddleware
from serving.http.middleware.keys import KeysMiddleware
from serving.http.middleware.media_type import MediaTypeMiddleware
from serving.http.middleware.model_version import ModelVersionMiddleware
from serving.http.middleware.rate_limit import RateLimitMiddleware
from serving.http.middleware.request_context import RequestContextMiddleware
from serving.http.middleware.response_cache import ResponseCacheMiddleware, StoredAnswer
from serving.http.middleware.root_path import RootPathMiddleware
from serving.http.middleware.telemetry import TelemetryMiddleware
from serving.http.proxies import Network
from serving.http.router import Router
from serving.inference.registry import Registry


def application(
    other: ASGIApp,
    routes: Sequence[Route],
    lifecycle: Lifecycle,
    *,
    timeout_seconds: float,
    body_timeout_seconds: float,
    root_path: str = "",
    cors_origins: Sequence[str] = (),
) -> ASGIApp:
    """Return the app that answers requests by `routes`; what is not HTTP goes to `other`."""
    app: ASGIApp = Router(routes)
    app = DeadlineMiddleware(app, timeout_seconds, body_timeout_seconds)
    app = ErrorsMiddleware(app)
    app = TelemetryMiddleware(app)
    app = RequestContextMiddleware(app, timeout_seconds, lifecycle)
    app = GuardMiddleware(app, other)
    if root_path:
        app = RootPathMiddleware(app, root_path)
    if cors_origins:
        app = Cors(app, cors_origins)
    return app


@dataclass
class Guards:
    """What stands between a request to a model and its answer, for all routes of a worker."""

    keys: ApiKeys
    limit: RateLimit | None
    answers: MemoryCache[StoredAnswer]
    in_flight: BytesInFlight
    # The limit for requests without a valid key, by address; and the proxies that may name a client's address.
    failed_keys: RateLimit | None = None
    trusted_proxies: Sequence[Network] = ()

    def admission(self) -> list[Middleware]:
        """Return the middlewares that decide who may ask, and how often."""
        found = []
        if self.keys.required:
            found.append(Middleware(KeysMiddleware, self.keys, self.failed_keys, self.trusted_proxies))
        if self.limit is not None:
            found.append(Middleware(RateLimitMiddleware, self.limit, self.trusted_proxies))
        return found

    def post(
        self,
        path: str,
        endpoint: ASGIApp,
        accepted: Accepted,
        *,
        cached_as: str | None = None,
        model: tuple[Registry, str] | None = None,
    ) -> Route:
        """Return the route `POST path`, whose answers the cache knows by `cached_as` where it is given.

        A `model`, of a registry and by its name, has the client told which version of it answers.
        """
        middleware = [*self.admission(), Middleware(MediaTypeMiddleware, accepted.media_type)]
        if model is not None:
            middleware.append(Middleware(ModelVersionMiddleware, *model))
        middleware.append(Middleware(BodyMiddleware, accepted.max_body_bytes, self.in_flight))
        if accepted.cacheable:
            middleware.append(Middleware(ResponseCacheMiddleware, self.answers, cached_as or path))
        return Route(path, endpoint, methods=["POST"], name=path, middleware=middleware)
