"""Starlette's routes, matched with errors in one form."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import RedirectResponse
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from serving.http.errors import RefusedError, error_response
from serving.http.exchange import EXCHANGE, Exchange


class ModelRoute(Route):
    """A route of a model, by a protocol as metrics call it."""

    def __init__(self, *arguments: Any, model: str, protocol: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.model = model
        self.protocol = protocol


class Router:
    """ASGI app that runs the route that matches path and method; its name becomes the exchange's `route`.

    The path begins with the scope's `root_path`, which may be empty. A path without a route is that of the route that
    `aliases` has for it, or that the path has without a slash at its end: clients that post would not follow a
    redirect.
    """

    def __init__(self, routes: Sequence[Route], aliases: Mapping[str, str] | None = None) -> None:
        self.aliases = aliases or {}
        self.patterns = [route for route in routes if route.param_convertors]
        # Starlette tries one regular expression after the other: 16 microseconds, where all that answers from the cache
        # takes 23. Most paths have no parameters.
        self.literal: dict[str, list[Route]] = {}
        for route in routes:
            if not route.param_convertors:
                self.literal.setdefault(route.path, []).append(route)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the route; raise RefusedError where there is none."""
        root: str = scope.get("root_path", "")
        path = scope["path"][len(root) :]
        if root and not path:  # the links of the page are relative to what follows the slash
            return RedirectResponse(f"{root}/")(scope, receive, send)
        found = self.literal.get(path) or self.matching(scope)
        if not found and (other := self.other(path)):
            scope = {**scope, "path": root + other}  # a copy, since logs show the path that was asked for
            found = self.literal.get(other) or self.matching(scope)
        if not found:
            raise RefusedError(error_response(HTTPStatus.NOT_FOUND, "no such path"))
        exchange: Exchange = scope[EXCHANGE]
        exchange.route = found[0].name
        if isinstance(found[0], ModelRoute):
            exchange.model, exchange.protocol = found[0].model, found[0].protocol
        for route in found:
            if route.methods and scope["method"] in route.methods:
                return route.app(scope, receive, send)
        allowed = ", ".join(sorted({method for route in found for method in route.methods or ()} - {"HEAD"}))
        error = f"{scope['method']} is not allowed here, use {allowed}"
        raise RefusedError(error_response(HTTPStatus.METHOD_NOT_ALLOWED, error, headers={"Allow": allowed}))

    def other(self, path: str) -> str | None:
        """Return the path that a path without a route stands for, if any."""
        plain = path.removesuffix("/")
        if plain.endswith("/"):
            return None
        return self.aliases.get(plain) or (plain if plain != path else None)

    def matching(self, scope: Scope) -> list[Route]:
        """Return the routes with parameters whose path matches, and put the parameters into the scope."""
        found = []
        for route in self.patterns:
            match, child_scope = route.matches(scope)
            if match is not Match.NONE:
                scope.update(child_scope)
                found.append(route)
        return found
