"""The endpoint of a model's `infer`: reads and bounds the body, then has BentoML's app answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

import models
from serving.bento.api import infer_path
from serving.bento.errors import UniformErrors
from serving.http.body import parse_beside
from serving.http.client_watch import ClientWatch
from serving.http.endpoints import Accepted, read_json
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.forms import Form
from serving.http.surrogates import replace_halves
from serving.inference.errors import UnknownModelError
from serving.inference.registry import Registry


class InferEndpoint:
    """ASGI app that has BentoML's `app` answer a model's `infer`; versions in `pinned` have a method of their own.

    Others are answered while they are the default.
    """

    def __init__(
        self, app: ASGIApp, name: str, accepted: Accepted, registry: Registry, pinned: Collection[str] = ()
    ) -> None:
        self.app = UniformErrors(app)
        self.name = name
        self.accepted = accepted
        self.registry = registry
        self.pinned = pinned
        self.model = models.find(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read and check the body, then forward it to BentoML."""
        exchange: Exchange = scope[EXCHANGE]
        if exchange.version not in (*self.pinned, self.registry.version(self.name)):
            entry = f"{self.name}:{exchange.version}"
            raise UnknownModelError(f"infer of {entry} needs {entry} among the models that the server starts with")
        # BentoML's dispatcher, a task of the first request, keeps that request for good; it must not keep the model.
        exchange.predictor = None
        if self.accepted.files:
            content_type = exchange.headers.get(b"content-type", b"")
            body = await exchange.body.all()  # BentoML reads it again
            with Form(content_type, self.accepted.files, self.accepted.max_parts, keep=False) as form:
                await form.read(body, exchange.body.pieces)
        else:
            body = await parse_beside(self.rewrite, await read_json(exchange, self.accepted.max_values))
        path = infer_path(self.name, exchange.version if exchange.version in self.pinned else None)
        with ClientWatch(receive, exchange):
            await self.app({**scope, "path": scope.get("root_path", "") + path}, replay(body), send)

    def rewrite(self, body: bytes) -> bytes:
        """Return a JSON body as BentoML is to parse it."""
        return self.model.without_unread(replace_halves(body))


def replay(body: bytes) -> Receive:
    """Return a `receive` that gives `body` once and then waits: the endpoint itself watches for the client to leave."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            await asyncio.get_running_loop().create_future()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
