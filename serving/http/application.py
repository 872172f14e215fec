"""The app that answers requests: the middlewares of all routes, in order, and the router.

The middlewares inside, which only some routes have, are those of `serving/http/guards.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.routing import Route
from starlette.types import ASGIApp

from serving.http.lifecycle import Lifecycle
from serving.http.middleware.cors import CorsMiddleware
from serving.http.middleware.deadline import DeadlineMiddleware
from serving.http.middleware.errors import ErrorsMiddleware
from serving.http.middleware.guard import GuardMiddleware
from serving.http.middleware.request_context import RequestContextMiddleware
from serving.http.middleware.root_path import RootPathMiddleware
from serving.http.middleware.telemetry import TelemetryMiddleware
from serving.http.router import Router


def application(
    other: ASGIApp,
    routes: Sequence[Route],
    lifecycle: Lifecycle,
    *,
    timeout_seconds: float,
    body_timeout_seconds: float,
    root_path: str = "",
    cors_origins: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> ASGIApp:
    """Return the app that answers requests by `routes` and their `aliases`; what is not HTTP goes to `other`."""
    app: ASGIApp = Router(routes, aliases)
    app = DeadlineMiddleware(app, timeout_seconds, body_timeout_seconds)
    app = ErrorsMiddleware(app)
    app = TelemetryMiddleware(app)
    app = RequestContextMiddleware(app, timeout_seconds, lifecycle)
    if root_path:
        app = RootPathMiddleware(app, root_path)
    if cors_origins:
        app = CorsMiddleware(app, cors_origins)
    return GuardMiddleware(app, other)
