r"""Answers as a text in JSON, for clients that read them so: `"{\"Label\": \"tabby\", \"Score\": \"0.538\"}"`."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.errors import RefusedError, validation_response

# The parameter in the query, and what it may be: the answer as it is, or as a text.
PARAMETER = "answer"
VALUES = ("json", "text")
# What an answer without texts and numbers becomes.
EMPTY = "OK"


class TextAnswerMiddleware:
    """ASGI middleware that sends JSON objects as texts where the query has `answer=text`.

    It stands outside the response cache, whose keys do not have the query.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; raise RefusedError for another value of the parameter."""
        if scope["query_string"]:
            given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get(PARAMETER, ["json"])
            if given == ["text"]:
                send = TextSender(send).send
            elif given != ["json"]:
                detail = {"loc": ["query", PARAMETER], "msg": f"must be {' or '.join(VALUES)}", "type": "enum"}
                raise RefusedError(validation_response([detail]))
        await self.app(scope, receive, send)


class TextSender:
    """Sends a JSON object as a text, once all of it is there, and anything else as it is."""

    def __init__(self, client: Send) -> None:
        self.client = client
        self.start: Message | None = None
        self.body = b""

    async def send(self, message: Message) -> None:
        """Send a message on; hold those of an object back until the last."""
        if message["type"] == "http.response.start" and is_object(message):
            self.start = message
        elif self.start is None:
            await self.client(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                text = json.dumps(as_text(json.loads(self.body))).encode()
                headers = [(name, value) for name, value in self.start["headers"] if name != b"content-length"]
                headers.append((b"content-length", str(len(text)).encode()))
                await self.client({**self.start, "headers": headers})
                await self.client({"type": "http.response.body", "body": text})


def is_object(start: Message) -> bool:
    """Return whether a response is a success with JSON."""
    return start["status"] == HTTPStatus.OK and (b"content-type", b"application/json") in start["headers"]


def as_text(content: dict[str, Any]) -> str:
    """Return the texts and numbers of an object as JSON, numbers as texts of three decimals; EMPTY without any."""
    found = {name: value for name, value in content.items() if isinstance(value, str | float)}
    texts = {name: value if isinstance(value, str) else f"{value:.3f}" for name, value in found.items()}
    return json.dumps(texts) if texts else EMPTY
