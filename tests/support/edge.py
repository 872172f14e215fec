"""A tiny app for the edge to stand around, and the endpoints that it has."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from serving.http.body import START_BYTES
from serving.http.edge import Edge
from serving.http.endpoints import Endpoint, Guards
from serving.inference import context


class App:
    """What the edge protects: counts the requests that reach it, and those that were given up."""

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
        """An answer of which a part was known for 30 seconds."""
        request = context.current.get()
        assert request is not None
        request.hits, request.misses, request.age = 2, 1, 30.0
        return PlainTextResponse(str(self.reached))


ENDPOINTS = {
    **{path: Endpoint("POST", 100) for path in ("/echo", "/id", "/fail", "/busy", "/hang")},
    **{
        path: Endpoint("POST", 2 * START_BYTES, cacheable=True)
        for path in ("/bad", "/count", "/count-too", "/created", "/partial")
    },
    "/health": Endpoint("GET", public=True),
    "/sum/info": Endpoint("GET"),
}


def edge_around(app: App, guards: Guards) -> Edge:
    """An edge whose system answers at /health and /sum/info, and which waits for a fifth of a second."""

    async def answer(request: Request) -> Response:
        return PlainTextResponse("system")

    system = Starlette(routes=[Route("/health", answer), Route("/sum/info", answer)])
    return Edge(
        app, system, ENDPOINTS, passed_on=("/static/",), timeout_seconds=0.2, body_timeout_seconds=0.2, guards=guards
    )
