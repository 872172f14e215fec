"""Admission: API keys and the rate limit, checked before anything else in a request."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Scope

from serving.http.endpoints import Guards
from serving.http.errors import error_response
from serving.http.proxies import client_address
from serving.http.sender import ResponseSender


async def refusal(scope: Scope, guards: Guards, sender: ResponseSender) -> Response | None:
    """Return the refusal of a request without a valid key or over the rate limit; None for any other request."""
    owner = guards.keys.owner(scope["headers"]) if guards.keys.required else None
    lacks_key = guards.keys.required and owner is None
    limit = guards.failed_keys if lacks_key else guards.limit
    if limit is not None:
        if owner is None:
            peer = (scope.get("client") or ("unknown",))[0]
            owner = client_address(peer, scope["headers"], guards.trusted_proxies)
        allowance = await limit.take(owner)
        sender.extra += [(name.lower().encode(), value.encode()) for name, value in allowance.headers().items()]
        if not allowance.allowed:
            kind = "requests without a valid key" if lacks_key else "requests"
            return error_response(HTTPStatus.TOO_MANY_REQUESTS, f"at most {limit.limit} {kind} are allowed")
    if lacks_key:
        return error_response(
            HTTPStatus.UNAUTHORIZED,
            "a valid API key is needed, in the header Authorization: Bearer KEY or X-API-Key: KEY",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return None
