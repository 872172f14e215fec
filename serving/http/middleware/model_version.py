"""The version of the model that answers: the one that the path names, else the default."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.exchange import EXCHANGE, Exchange
from serving.inference.registry import Registry


class ModelVersionMiddleware:
    """ASGI middleware that decides which version of a model answers, and tells the client."""

    def __init__(self, app: ASGIApp, registry: Registry, model: str) -> None:
        self.app = app
        self.registry = registry
        self.model = model

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the app inside; raise UnknownModelError when the version that the path names is not loaded."""
        version = scope["path_params"].get("version") if "path_params" in scope else None
        exchange: Exchange = scope[EXCHANGE]
        if version is None and not self.registry.version(self.model):
            exchange.context.no_store = True  # whatever version is loaded meanwhile, it has no part in the key
        else:
            # It answers even when it is unloaded meanwhile.
            exchange.note_predictor(self.registry.get(self.model, version))
        return self.app(scope, receive, send)
