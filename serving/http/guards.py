"""The middlewares in front of the models' routes: keys, limits, versions and the response cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys, RateLimit
from serving.http.body import BytesInFlight
from serving.http.endpoints import Accepted
from serving.http.middleware.body import BodyMiddleware
from serving.http.middleware.keys import KeysMiddleware
from serving.http.middleware.media_type import MediaTypeMiddleware
from serving.http.middleware.model_version import ModelVersionMiddleware
from serving.http.middleware.rate_limit import RateLimitMiddleware
from serving.http.middleware.response_cache import ResponseCacheMiddleware, StoredAnswer
from serving.http.middleware.text_answer import TextAnswerMiddleware
from serving.http.proxies import Network
from serving.http.router import ModelRoute
from serving.inference.registry import Registry


@dataclass
class Guards:
    """Builds the middlewares of each model route from what all these routes share."""

    keys: ApiKeys
    limit: RateLimit | None
    answers: MemoryCache[StoredAnswer]
    in_flight: BytesInFlight
    # The limit for requests without a valid key, by address; and the proxies that may name a client's address.
    failed_keys: RateLimit | None = None
    trusted_proxies: Sequence[Network] = ()

    def admission(self) -> list[Middleware]:
        """Return the middlewares that check API keys and the rate limit."""
        found = []
        if self.keys.required:
            found.append(Middleware(KeysMiddleware, self.keys, self.failed_keys, self.trusted_proxies))
        if self.limit is not None:
            found.append(Middleware(RateLimitMiddleware, self.limit, self.trusted_proxies))
        return found

    def post(
        self,
        path: str,
        endpoint: ASGIApp,
        accepted: Accepted,
        *,
        cached_as: str | None = None,
        model: tuple[Registry, str] | None = None,
        protocol: str = "rest",
        may_be_text: bool = False,
    ) -> Route:
        """Return the route `POST path`; the response cache keys its answers by `cached_as`, by default the path.

        With a `model`, its registry and name, responses tell which version of the model answered, and metrics count
        them as the model's, by `protocol`. `may_be_text`: answers are texts where the query wants it.
        """
        middleware = self.admission()
        if may_be_text:
            middleware.append(Middleware(TextAnswerMiddleware))
        if accepted.media_type is not None:
            middleware.append(Middleware(MediaTypeMiddleware, accepted.media_type))
        if model is not None:
            middleware.append(Middleware(ModelVersionMiddleware, *model))
        middleware.append(Middleware(BodyMiddleware, accepted.max_body_bytes, self.in_flight))
        if accepted.cacheable:
            middleware.append(Middleware(ResponseCacheMiddleware, self.answers, cached_as or path))
        options: dict[str, Any] = {"methods": ["POST"], "name": path, "middleware": middleware}
        if model is None:
            return Route(path, endpoint, **options)
        return ModelRoute(path, endpoint, model=model[1], protocol=protocol, **options)
