"""The outermost middleware: an exception that escaped it would leave the client waiting for the server's time-out."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.errors import error_response
from serving.http.exchange import EXCHANGE

log = logging.getLogger("tiffin.edge")


class GuardMiddleware:
    """ASGI middleware that answers 500 when a middleware fails; what is not HTTP goes to `other`."""

    def __init__(self, app: ASGIApp, other: ASGIApp) -> None:
        self.app = app
        self.other = other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; log what it raises."""
        if scope["type"] != "http":
            await self.other(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        except Exception:
            log.exception("%s %s failed in a middleware", scope["method"], scope["path"])
            exchange = scope.get(EXCHANGE)
            if exchange is None or exchange.status is None:
                await error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")(scope, receive, send)
