"""A tiny app with its routes, and the middlewares around it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.bento.errors import UniformErrors
from serving.bento.infer import replay
from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys
from serving.http.application import application
from serving.http.body import START_BYTES, BytesInFlight
from serving.http.client_watch import ClientWatch
from serving.http.endpoints import Accepted, read_json
from serving.http.exchange import EXCHANGE
from serving.http.guards import Guards
from serving.http.lifecycle import Lifecycle
from serving.http.middleware.response_cache import StoredAnswer
from serving.inference import context


class App:
    """The app behind the middlewares; counts the requests that reach it and those that are cancelled."""

    def __init__(self) -> None:
        self.reached = 0
        self.given_up = 0
        self.routes = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST"]),
                Route("/id", self.id, methods=["POST"]),
                Route("/bad", self.bad, methods=["POST"]),
                Route("/busy", self.busy, methods=["POST"]),
                Route("/hang", self.hang, methods=["POST"]),
                Route("/count", self.count, methods=["POST"]),
                Route("/count-too", self.count, methods=["POST"]),
                Route("/created", self.created, methods=["POST"]),
                Route("/partial", self.partial, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += scope["type"] == "http"
        if scope.get("path") == "/fail":
            raise RuntimeError("secret")
        await self.routes(scope, receive, send)

    async def echo(self, request: Request) -> Response:
        return PlainTextResponse(await request.body())

    async def id(self, _: Request) -> Response:
        request = context.current.get()
        return PlainTextResponse(request.id if request else None)

    async def bad(self, _: Request) -> Response:
        detail = [{"loc": ["root", 2], "msg": "no", "type": "number", "url": "https://example.org", "input": "secret"}]
        return JSONResponse({"error": "1 validation error", "detail": detail}, status_code=400)

    async def busy(self, _: Request) -> Response:
        return PlainTextResponse("busy", status_code=503, headers={"Retry-After": "3"})

    async def hang(self, _: Request) -> Response:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        raise AssertionError

    async def count(self, _: Request) -> Response:
        return PlainTextResponse(str(self.reached))

    async def created(self, _: Request) -> Response:
        return PlainTextResponse(str(self.reached), status_code=201)

    async def partial(self, _: Request) -> Response:
        """Respond as if two of three items came from the cache, the oldest 30 seconds old."""
        request = context.current.get()
        assert request is not None
        request.hits, request.misses, request.age = 2, 1, 30.0
        return PlainTextResponse(str(self.reached))


LIMITED = Accepted(100)
CACHED = Accepted(2 * START_BYTES, cacheable=True)
ACCEPTED = {
    **dict.fromkeys(("/echo", "/id", "/fail", "/busy", "/hang"), LIMITED),
    **dict.fromkeys(("/bad", "/count", "/count-too", "/created", "/partial"), CACHED),
}


class Pass:
    """An endpoint that reads a JSON body and forwards it to an app, as the endpoint of `infer` does."""

    def __init__(self, app: ASGIApp, accepted: Accepted) -> None:
        self.app = UniformErrors(app)
        self.max_values = accepted.max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = scope[EXCHANGE]
        body = await read_json(exchange, self.max_values)
        with ClientWatch(receive, exchange):
            await self.app(scope, replay(body), send)


def edge_around(
    app: ASGIApp,
    guards: Guards,
    *,
    accepted: Mapping[str, Accepted] = ACCEPTED,
    routes: Sequence[Route] = (),
    lifecycle: Lifecycle | None = None,
    timeout_seconds: float = 0.2,
    body_timeout_seconds: float = 0.2,
    root_path: str = "",
    aliases: Mapping[str, str] | None = None,
) -> ASGIApp:
    """Return the middlewares around an app that gets POST requests; they themselves answer /health and /sum/info."""

    async def answer(request: Request) -> Response:
        return PlainTextResponse("system")

    return application(
        app,
        [
            *(guards.post(path, Pass(app, what), what) for path, what in accepted.items()),
            Route("/health", answer, name="/health"),
            Route("/sum/info", answer, name="/sum/info", middleware=guards.admission()),
            *routes,
        ],
        lifecycle or Lifecycle(loaded=True),
        timeout_seconds=timeout_seconds,
        body_timeout_seconds=body_timeout_seconds,
        root_path=root_path,
        aliases=aliases,
    )


def public_guards(in_flight: BytesInFlight | None = None, max_bytes: int = 0) -> Guards:
    """Return guards without API keys or a rate limit, and with a response cache of `max_bytes`."""
    answers: MemoryCache[StoredAnswer] = MemoryCache("response", max_bytes, 180)
    return Guards(ApiKeys([], None), None, answers, in_flight or BytesInFlight(2**24))
