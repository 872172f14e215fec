"""Cross-origin requests: what a browser sends for a page of another origin (the Fetch standard's CORS protocol)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from serving.http.errors import error_response

# Headers of answers that these pages may read, besides those that any page may.
EXPOSED = (
    "Age",
    "Inference-Header-Content-Length",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "X-Cache",
    "X-Model-Version",
    "X-Request-Id",
)
MAX_AGE_SECONDS = 600


class CorsMiddleware(CORSMiddleware):
    """ASGI middleware that lets pages of `origins` send requests and read the answers, errors included."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("*",),
            expose_headers=EXPOSED,
            max_age=MAX_AGE_SECONDS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request; refuse it in the form of all errors."""
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return error_response(HTTPStatus.BAD_REQUEST, bytes(response.body).decode(), headers=headers)
