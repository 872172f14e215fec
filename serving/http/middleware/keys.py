"""API keys: who may send requests."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

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
        exchange.owner = self.keys.owner(scope["headers"])
        if exchange.owner is None:
            if self.failed is not None:
                address = address_of(scope, self.trusted_proxies)
                await take(self.failed, address, exchange, "requests without a valid key")
            raise RefusedError(
                error_response(
                    HTTPStatus.UNAUTHORIZED,
                    "a valid API key is needed, in the header Authorization: Bearer KEY or X-API-Key: KEY",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            )
        await self.app(scope, receive, send)
