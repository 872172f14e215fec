"""The rate limit: how many requests a client may send."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.access import RateLimit
from serving.http.errors import RefusedError, error_response
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.proxies import Network, address_of


class RateLimitMiddleware:
    """ASGI middleware that bounds the requests per key or, where there are no keys, per client address."""

    def __init__(self, app: ASGIApp, limit: RateLimit, trusted_proxies: Sequence[Network]) -> None:
        self.app = app
        self.limit = limit
        self.trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; raise RefusedError for a request over the limit."""
        exchange: Exchange = scope[EXCHANGE]
        owner = exchange.owner or address_of(scope, self.trusted_proxies)
        await take(self.limit, owner, exchange, "requests")
        await self.app(scope, receive, send)


async def take(limit: RateLimit, owner: str, exchange: Exchange, kind: str) -> None:
    """Count a request of `owner` and tell the client what is left; raise RefusedError when it is one too many."""
    allowance = await limit.take(owner)
    exchange.response_headers += [
        (name.lower().encode(), value.encode()) for name, value in allowance.headers().items()
    ]
    if not allowance.allowed:
        raise RefusedError(error_response(HTTPStatus.TOO_MANY_REQUESTS, f"at most {limit.limit} {kind} are allowed"))
