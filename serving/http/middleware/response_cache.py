"""The response cache: a body that was answered before gets that answer again."""

from __future__ import annotations

from hashlib import blake2b
from http import HTTPStatus
from typing import NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.caching.memory import MemoryCache
from serving.http.body import START_BYTES
from serving.http.exchange import EXCHANGE, Exchange
from serving.http.v2 import HEADER_LENGTH
from serving.telemetry import metrics


class StoredAnswer(NamedTuple):
    """An answer as the cache stores it."""

    media_type: bytes
    body: bytes
    # Of a body in the binary form of the Open Inference Protocol.
    header_length: bytes | None = None


class ResponseCacheMiddleware:
    """ASGI middleware that stores answers by `path`, version of the model, content type and body.

    Nothing is stored for bodies over START_BYTES: hashing a larger one would hold up the requests behind it.
    """

    def __init__(self, app: ASGIApp, answers: MemoryCache[StoredAnswer], path: str) -> None:
        self.app = app
        self.answers = answers
        self.path = path.encode()
        self.hits = metrics.cache_lookups.labels("response", "", "memory", "hit")
        self.misses = metrics.cache_lookups.labels("response", "", "memory", "miss")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer stored for the same body; else run the app inside and store its answer."""
        exchange: Exchange = scope[EXCHANGE]
        body = exchange.body.arrived
        if body is None:
            start = await exchange.body.start()
            body = start if exchange.body.complete else None
        key = None if body is None or len(body) > START_BYTES else self.key(exchange, body)
        if key is not None and not exchange.context.no_cache:
            known = self.answers.get(key)
            if known is not None:
                self.hits.inc()
                await send_stored(exchange, send, *known)
                return
            self.misses.inc()
        if exchange.context.no_store:
            key = None
        await self.app(scope, receive, Recorder(exchange, send, self.answers, key).send)

    def key(self, exchange: Exchange, body: bytes) -> bytes:
        """Return the key of an answer."""
        # By these the body is read: the content type has a form's boundary and a text's charset.
        content_type = exchange.headers.get(b"content-type", b"")
        header_length = exchange.headers.get(HEADER_LENGTH, b"absent")
        parts = (self.path, exchange.version.encode(), content_type, header_length, b"")
        digest = blake2b(b"\0".join(parts), digest_size=16)
        digest.update(body)
        return digest.digest()


async def send_stored(exchange: Exchange, send: Send, stored: StoredAnswer, age_seconds: float) -> None:
    """Send an answer that has been in the cache for `age_seconds`."""
    exchange.cache = "hit"
    headers = [
        (b"content-type", stored.media_type),
        (b"content-length", str(len(stored.body)).encode()),
        (b"x-cache", b"hit"),
        (b"age", str(int(age_seconds)).encode()),
    ]
    if stored.header_length is not None:
        headers.append((HEADER_LENGTH, stored.header_length))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": stored.body})


class Recorder:
    """Sends an answer with headers on what the caches did, and stores a success under `key`, if any."""

    def __init__(self, exchange: Exchange, client: Send, answers: MemoryCache[StoredAnswer], key: bytes | None) -> None:
        self.exchange = exchange
        self.client = client
        self.answers = answers
        self.key = key
        self.media_type = b""
        self.header_length: bytes | None = None
        self.body = b""

    async def send(self, message: Message) -> None:
        """Send a message on."""
        if message["type"] == "http.response.start":
            self.begin(message)
        elif self.key is not None:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                answer = StoredAnswer(self.media_type, self.body, self.header_length)
                self.answers.put(self.key, answer, len(self.body), self.exchange.context.age)
        await self.client(message)

    def begin(self, message: Message) -> None:
        """Add the caches' headers to an answer that is no error."""
        if message["status"] != HTTPStatus.OK:
            self.key = None
        if message["status"] >= HTTPStatus.BAD_REQUEST:
            return
        headers = dict(message["headers"])
        self.media_type = headers.get(b"content-type", b"application/json")
        self.header_length = headers.get(HEADER_LENGTH)
        self.exchange.note_caches()
