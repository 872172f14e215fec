"""The id of a request, what its headers allow caches to do, and the headers that its response gets."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Iterable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.exchange import EXCHANGE, Exchange
from serving.http.lifecycle import Lifecycle
from serving.inference import context
from serving.inference.context import RequestContext

REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}")


class RequestContextMiddleware:
    """ASGI middleware that begins the exchange of a request and adds its `response_headers` to the response.

    Once the worker is about to end, connections are not kept, so that clients go elsewhere.
    """

    def __init__(self, app: ASGIApp, timeout_seconds: float, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.timeout_seconds = timeout_seconds

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the app inside with the context of this request."""
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))
        request = new_context(scope["headers"], headers, self.timeout_seconds)
        exchange = scope[EXCHANGE] = Exchange(headers, request, [(b"x-request-id", request.id.encode())])
        if self.lifecycle.draining:
            exchange.response_headers.append((b"connection", b"close"))
        # Each request has a task of its own, so this need not be reset.
        context.current.set(request)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message["headers"], *exchange.response_headers]
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                exchange.complete = True
                # The server keeps the scope until the connection's next request, but the model may be unloaded.
                exchange.predictor = None
            await send(message)

        return self.app(scope, receive, send_with_headers)


def new_context(
    raw: Iterable[tuple[bytes, bytes]], headers: Mapping[bytes, bytes], timeout_seconds: float
) -> RequestContext:
    """Return the context of a request that has just arrived."""
    given = headers.get(b"x-request-id", b"")
    name = given.decode() if given and REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    request = RequestContext(name, time.monotonic() + timeout_seconds)
    if b"cache-control" in headers:
        # Several lines count as one.
        values = b",".join(value for header, value in raw if header == b"cache-control")
        directives = {part.strip().lower() for part in values.split(b",")}
        request.no_store = b"no-store" in directives
        request.no_cache = request.no_store or b"no-cache" in directives
    return request
