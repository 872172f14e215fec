"""Metrics, the access log and the span of each request."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.errors import CLIENT_GONE
from serving.http.exchange import EXCHANGE, Exchange
from serving.telemetry import metrics, tracing
from serving.telemetry.metrics import Counted

access = logging.getLogger("tiffin.access")


class TelemetryMiddleware:
    """ASGI middleware that traces, counts and logs requests."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside in a span of its own."""
        started = time.perf_counter()
        exchange: Exchange = scope[EXCHANGE]
        with tracing.request_span(scope, exchange.headers, exchange.context.id) as span:
            await self.app(scope, receive, send)
            status = exchange.status or CLIENT_GONE
            span.set_attribute("http.response.status_code", status)
            seconds = time.perf_counter() - started
            counted = Counted(exchange.protocol, exchange.route, exchange.model, exchange.version)
            metrics.count_request(counted, status, exchange.cache, seconds)
            if not access.disabled:  # within the span, so that the line names the trace
                access.info(
                    "%s %s %s, %.1f ms, cache %s",
                    scope["method"],
                    scope["path"],
                    status,
                    seconds * 1000,
                    exchange.cache,
                )
