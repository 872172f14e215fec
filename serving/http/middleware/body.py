"""The bounds of a body: bytes, bytes of all bodies together, and time."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.body import BytesInFlight, RequestBody
from serving.http.exchange import EXCHANGE, Exchange

# A Content-Length of fewer digits is that of a body which may come at once.
FEW_DIGITS = 7


class BodyMiddleware:
    """ASGI middleware that gives the app inside a bounded body, as `body` of the exchange; `receive` is used up."""

    def __init__(self, app: ASGIApp, max_bytes: int, in_flight: BytesInFlight) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.in_flight = in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; its reading of the body raises RefusedError where that is over a bound."""
        exchange: Exchange = scope[EXCHANGE]
        headers = exchange.headers
        if b"content-encoding" in headers:  # several lines count as one
            codings = [value for name, value in scope["headers"] if name == b"content-encoding"]
            headers = {**headers, b"content-encoding": b",".join(codings)}
        deadline = exchange.deadline
        deadline.received = False
        first = None
        length = headers.get(b"content-length", b"")
        if len(length) < FEW_DIGITS and length.isdigit() and int(length) <= self.max_bytes:
            # Nearly always the whole body comes at once; then a known answer is sent before anything else is done.
            first = await receive()
        body = exchange.body = RequestBody(headers, first, receive, self.max_bytes, self.in_flight, deadline)
        try:
            await self.app(scope, receive, send)
        finally:
            body.release()
            # It has the server's `receive`, which has the scope: such a cycle lives until garbage is collected.
            del exchange.body
