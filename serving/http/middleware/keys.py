"""API keys: who may send requests."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import NoReturn

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.access import ApiKeys, RateLimit
from serving.http.errors import RefusedError, error_response
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.middleware.rate_limit import take
from serving.http.proxies import Network, address_of


class KeysMiddleware:
    """ASGI middleware that admits requests with a valid key; `failed` bounds the others, by their client's address."""

    def __init__(
        self, app: ASGIApp, keys: ApiKeys, failed: RateLimit | None, trusted_proxies: Sequence[Network]
    ) -> None:
        self.app = app
        self.keys = keys
        self.failed = failed
        self.trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; raise RefusedError for a request without a valid key."""
        exchange: Exchange = scope[EXCHANGE]
        owner = self.keys.owner(scope["headers"])
        if owner is None:
            await refuse(self.failed, address_of(scope, self.trusted_proxies), exchange)
        exchange.owner = owner
        await self.app(scope, receive, send)


async def refuse(failed: RateLimit | None, address: str, exchange: Exchange) -> NoReturn:
    """Count a request without a valid key by its client's address, and raise its RefusedError."""
    if failed is not None:
        await take(failed, address, exchange, "requests without a valid key")
    error = "a valid API key is needed, in the header Authorization: Bearer KEY or X-API-Key: KEY"
    raise RefusedError(error_response(HTTPStatus.UNAUTHORIZED, error, headers={"WWW-Authenticate": "Bearer"}))
