"""Errors in one form: what an endpoint or a middleware raises becomes a response."""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.errors import response_to
from serving.http.exchange import EXCHANGE

log = logging.getLogger("tiffin.edge")


class ErrorsMiddleware:
    """ASGI middleware that answers with the error that is raised inside; faults of the server are logged."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; answer with what it raises, unless a response has begun."""
        try:
            await self.app(scope, receive, send)
        except Exception as error:
            response = response_to(error)
            if response.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
                log.exception("%s %s failed", scope["method"], scope["path"])
            if scope[EXCHANGE].status is None:
                await response(scope, receive, send)
