"""The endpoints that answer POST requests, behind the middlewares, and what each accepts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.http.body import too_large, utf8
from serving.http.bounds import MIN_VALUES, has_more_values
from serving.http.client_watch import ClientWatch
from serving.http.errors import RefusedError, validation_response
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.forms import Form

JSON, FORM = b"application/json", b"multipart/form-data"


@dataclass(frozen=True)
class Accepted:
    """What a route accepts; without `files` a body is JSON, with them multipart.

    `max_values`: most values of a JSON body. `max_parts`: most parts of a form. `cacheable`: equal bodies get equal
    answers. `any_media_type`: whatever a body declares to be, as clients of the Open Inference Protocol do.
    """

    max_body_bytes: int
    max_values: int = MIN_VALUES
    files: frozenset[str] = frozenset()
    max_parts: int = 100
    cacheable: bool = False
    any_media_type: bool = False

    @property
    def media_type(self) -> bytes | None:
        """The media type that a body must have; None where any will do."""
        if self.any_media_type:
            return None
        return FORM if self.files else JSON

    def uncached(self) -> Accepted:
        """Return the same for a route whose answers differ although bodies are equal."""
        return replace(self, cacheable=False)


class JsonEndpoint:
    """ASGI app that answers JSON bodies by `answer`, which is given the body and the exchange."""

    def __init__(self, accepted: Accepted, answer: Callable[[bytes, Exchange], Awaitable[Response]]) -> None:
        self.max_values = accepted.max_values
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and answer it."""
        exchange: Exchange = scope[EXCHANGE]
        body = await read_json(exchange, self.max_values)
        with ClientWatch(receive, exchange):
            response = await self.answer(body, exchange)
            await response(scope, receive, send)


class FormEndpoint:
    """ASGI app that answers forms by `answer`, which is given the fields and the exchange."""

    def __init__(self, accepted: Accepted, answer: Callable[[dict[str, Any], Exchange], Awaitable[Response]]) -> None:
        self.accepted = accepted
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Parse the form while it arrives, and answer it."""
        exchange: Exchange = scope[EXCHANGE]
        content_type = exchange.headers.get(b"content-type", b"")
        start = await exchange.body.start()
        with Form(content_type, self.accepted.files, self.accepted.max_parts, keep=True) as form:
            await form.read(start, exchange.body.pieces)
            with ClientWatch(receive, exchange):
                response = await self.answer(form.fields, exchange)
                await response(scope, receive, send)


async def read_json(exchange: Exchange, max_values: int) -> bytes:
    """Return a body of JSON as UTF-8; raise RefusedError when it is empty or has too many values."""
    content_type = exchange.headers.get(b"content-type", b"")
    body = utf8(await exchange.body.all(), content_type)
    if not body:
        # BentoML would take it for an empty object.
        detail = {"loc": [], "msg": "Invalid JSON: the body is empty", "type": "json_invalid"}
        raise RefusedError(validation_response([detail]))
    if len(body) > max_values and await has_more_values(body, max_values):
        raise RefusedError(too_large(f"{max_values:,} values"))
    return body
