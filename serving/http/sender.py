"""The answer to a request on its way out, and the time that it may take."""

from __future__ import annotations

import asyncio
import json
import time
from http import HTTPStatus
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Send

from serving.caching.memory import MemoryCache
from serving.http.body import RECEIVING
from serving.http.errors import error_response, validation_response
from serving.inference.context import RequestContext

# A body that has arrived by then came at once: its time counts towards that of the answer.
AT_ONCE_SECONDS = 0.1

RawHeaders = list[tuple[bytes, bytes]]


class StoredAnswer(NamedTuple):
    """An answer as the response cache stores it."""

    media_type: bytes
    body: bytes


class ResponseSender:
    """The sender of an answer to the client; errors are held back until they are complete, then rewritten."""

    def __init__(self, send: Send, request: RequestContext, may_tell_receiving: bool) -> None:
        self.client = send
        self.may_tell_receiving = may_tell_receiving
        self.request = request
        self.status: int | None = None
        self.held: Message | None = None
        self.body = b""
        # Whether the whole request has arrived, and the whole answer has been sent.
        self.received = False
        self.complete = False
        # Headers that the answer gets, whatever it is.
        self.extra: RawHeaders = [(b"x-request-id", request.id.encode())]
        # Whether caches may know the answer, whether it was looked up, and where it is to be stored.
        self.cacheable = self.looked_up = False
        self.keep: tuple[MemoryCache[StoredAnswer], bytes] | None = None
        self.media_type = b""
        self.version = ""
        self.outcome = "none"

    def answers_for(self, version: str) -> None:
        """Set the version of the model that answers, and tell it to the client where there is one."""
        self.version = version
        if version:
            self.extra.append((b"x-model-version", version.encode()))

    async def send_through(self, message: Message) -> None:
        """Send a message as it is, with the headers that every answer gets."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *self.extra]
        elif not message.get("more_body", False):
            self.complete = True
        await self.client(message)

    async def send_stored(self, stored: StoredAnswer, age_seconds: float) -> None:
        """Send an answer from the response cache, where it has been for `age_seconds`."""
        self.outcome = "hit"
        headers = [
            (b"content-type", stored.media_type),
            (b"content-length", str(len(stored.body)).encode()),
            (b"x-cache", b"hit"),
            (b"age", str(int(age_seconds)).encode()),
            *self.extra,
        ]
        self.status = 200
        await self.client({"type": "http.response.start", "status": 200, "headers": headers})
        self.complete = True
        await self.client({"type": "http.response.body", "body": stored.body})

    async def send(self, message: Message) -> None:
        """Send a success, and store it where it is to be stored; send an error in the form of `ErrorBody`."""
        start = message["type"] == "http.response.start"
        if start and message["status"] >= HTTPStatus.BAD_REQUEST:
            self.held = message
        elif self.held is not None:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                await self.send_error(self.held)
        else:
            if self.cacheable:
                self.note(message)
            await self.send_through(message)

    async def send_error(self, start: Message) -> None:
        """Send the error that was held back, in the form of `ErrorBody`."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # BentoML's dispatcher of batches takes a cancellation for an overload and answers 503.
            raise asyncio.CancelledError
        response = uniform(start["status"], self.body)
        for name, value in Headers(raw=start["headers"]).items():
            if name in ("retry-after", "allow"):
                response.headers[name] = value
        if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers.setdefault("Retry-After", "1")
        await self.send_through(
            {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
        )
        await self.send_through({"type": "http.response.body", "body": response.body})

    def note(self, message: Message) -> None:
        """Tell the client what the caches did, and store the answer once it is complete."""
        if message["type"] == "http.response.start":
            if message["status"] != HTTPStatus.OK:
                self.keep = None
            self.outcome = self.request.cache_outcome
            self.media_type = dict(message["headers"]).get(b"content-type", b"application/json")
            self.extra.append((b"x-cache", self.outcome.encode()))
            if self.request.hits:
                self.extra.append((b"age", str(int(self.request.age)).encode()))
            return
        if self.keep is None:
            return
        self.body += message.get("body", b"")
        if not message.get("more_body", False):
            answers, key = self.keep
            answers.put(key, StoredAnswer(self.media_type, self.body), len(self.body), self.request.age)


def uniform(status: int, body: bytes) -> Response:
    """Return an error's answer in the form of `ErrorBody`, whatever form its `body` has."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict) and isinstance(content.get("detail"), list):
        if status != HTTPStatus.BAD_REQUEST:
            return Response(body, status, media_type="application/json")
        # BentoML answers 400 for whatever pydantic refuses. The items of a batch are named by their
        # place in the root of its output.
        for entry in content["detail"]:
            if entry["loc"][:1] == ["root"]:
                entry["loc"][0] = "items"
        return validation_response(content["detail"])
    return error_response(HTTPStatus(status), HTTPStatus(status).phrase.lower())


class Wait:
    """The time limit of a request: `body_seconds` for its body to get on, then `answer_seconds` for its answer.

    `limit` begins with the latter, from the request's head on, which will do for a body that arrives at once.
    """

    def __init__(
        self, sender: ResponseSender, limit: asyncio.Timeout, body_seconds: float, answer_seconds: float
    ) -> None:
        self.sender = sender
        self.limit = limit
        self.body_seconds = body_seconds
        self.answer_seconds = answer_seconds
        self.until = time.monotonic() + AT_ONCE_SECONDS
        self.told = False

    async def for_body(self) -> None:
        """Start the time limit for more of the body."""
        await self.anew(self.body_seconds)

    async def for_answer(self) -> None:
        """Note that the request has arrived; start the time limit for its answer, unless it arrived at once."""
        self.sender.received = True
        if time.monotonic() > self.until:
            await self.anew(self.answer_seconds)
            self.sender.request.deadline = time.monotonic() + self.answer_seconds

    async def anew(self, seconds: float) -> None:
        """Set the time limit to `seconds` from now; first tell BentoML, once, that the request is being received."""
        if not self.told and self.sender.may_tell_receiving:
            await self.sender.client({"type": RECEIVING})
        self.told = True
        self.limit.reschedule(asyncio.get_running_loop().time() + seconds)
