"""Conversion of errors: BentoML's to the form of all others, ours to exceptions whose status BentoML keeps."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus

from bentoml.exceptions import BentoMLException
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.errors import error_response, response_to, validation_response


class StatusError(BentoMLException):
    """An error that BentoML answers with the status that our table has for it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error_code = HTTPStatus(response_to(error).status_code)


class UniformErrors:
    """ASGI middleware around BentoML's app: holds its errors back until they are complete, then rewrites them."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside."""
        start: Message | None = None
        body = b""

        async def send_uniform(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                start = message
            elif start is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await rewritten(start, body)(scope, receive, send)

        await self.app(scope, receive, send_uniform)


def rewritten(start: Message, body: bytes) -> Response:
    """Return an error of BentoML in the form of `ErrorBody`; raise CancelledError where it hides a cancellation."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        # BentoML's dispatcher of batches takes a cancellation for an overload and answers 503.
        raise asyncio.CancelledError
    response = uniform(start["status"], body)
    for name, value in Headers(raw=start["headers"]).items():
        if name in ("retry-after", "allow"):
            response.headers[name] = value
    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers.setdefault("Retry-After", "1")
    return response


def uniform(status: int, body: bytes) -> Response:
    """Return an error's answer in the form of `ErrorBody`, whatever form its `body` has."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("detail"), list):
        # BentoML answers 400 for whatever pydantic refuses. The items of a batch are named by their
        # place in the root of its output.
        for entry in content["detail"]:
            if entry["loc"][:1] == ["root"]:
                entry["loc"][0] = "items"
        return validation_response(content["detail"])
    return error_response(HTTPStatus(status), HTTPStatus(status).phrase.lower())
