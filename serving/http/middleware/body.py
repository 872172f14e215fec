"""The bounds of a body: bytes, bytes of all bodies together, and time."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.body import BytesInFlight, RequestBody
from serving.http.exchange import EXCHANGE, Exchange

# A Content-Length of fewer digits is that of a body which may arrive at once.
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
        deadline = exchange.deadline
        deadline.received = False
        headers = exchange.headers
        first = None
        declared = headers.get(b"content-length", b"")
        if len(declared) < FEW_DIGITS and declared.isdigit() and int(declared) <= self.max_bytes:
            # Nearly always the whole body arrives at once; then a known answer is sent before anything else is done.
            first = await receive()
        if b"content-encoding" in headers:  # several lines count as one
            codings = [value for name, value in scope["headers"] if name == b"content-encoding"]
            headers = {**headers, b"content-encoding": b",".join(codings)}
        body = RequestBody(
            headers, first, receive, self.max_bytes, self.in_flight, deadline.for_body, deadline.for_answer
        )
        exchange.body = body
        try:
            await self.app(scope, receive, send)
        finally:
            body.release()
            # It has the server's `receive`, which has the scope: such a cycle lives until garbage is collected.
            del exchange.body
