"""The media type of a body."""

from __future__ import annotations

from collections.abc import Awaitable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.errors import RefusedError, error_response
from serving.http.exchange import EXCHANGE, Exchange


class MediaTypeMiddleware:
    """ASGI middleware that admits bodies of one media type; one that declares none is taken to have it."""

    def __init__(self, app: ASGIApp, media_type: bytes) -> None:
        self.app = app
        self.media_type = media_type

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the app inside; raise RefusedError for a body of another media type."""
        exchange: Exchange = scope[EXCHANGE]
        declared = exchange.headers.get(b"content-type", self.media_type)
        if declared.partition(b";")[0].strip().lower() != self.media_type:
            error = f"the body must be {self.media_type.decode()}"
            raise RefusedError(error_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, error))
        return self.app(scope, receive, send)
