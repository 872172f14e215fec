"""A BentoML service without a model: what BentoML costs by itself. Any POST gets the bytes of the file ANSWER."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
from starlette.types import ASGIApp, Receive, Scope, Send

ANSWER = Path(os.environ.get("ANSWER", os.devnull)).read_bytes()
HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
}
BODY = {"type": "http.response.body", "body": ANSWER}


@bentoml.service(tracing={"excluded_urls": ".*"}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Bare:
    """Nothing."""


def edge(app: ASGIApp) -> ASGIApp:
    """Return the app that answers POST requests; BentoML answers the others."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send(HEAD)
        await send(BODY)

    return answer


Bare.add_asgi_middleware(edge)  # type: ignore[attr-defined]
