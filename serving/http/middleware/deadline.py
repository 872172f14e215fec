"""The time that a request may take."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.body import RECEIVING
from serving.http.errors import RefusedError, error_response
from serving.http.exchange import EXCHANGE, Exchange
from serving.inference.context import RequestContext
from serving.inference.errors import DeadlineExceededError

# A body that has arrived by then came at once: its time counts towards that of the answer.
AT_ONCE_SECONDS = 0.1


class DeadlineMiddleware:
    """ASGI middleware that gives a request up when its answer, or the rest of its body, takes too long."""

    def __init__(self, app: ASGIApp, answer_seconds: float, body_seconds: float) -> None:
        self.app = app
        self.answer_seconds = answer_seconds
        self.body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; raise DeadlineExceededError, or RefusedError where the body did not come in time."""
        exchange: Exchange = scope[EXCHANGE]
        limit = asyncio.timeout(self.answer_seconds)
        may_tell = RECEIVING in scope.get("extensions", ())
        deadline = exchange.deadline = Deadline(
            exchange.context, limit, self.answer_seconds, self.body_seconds, send if may_tell else None
        )
        try:
            async with limit:
                await self.app(scope, receive, send)
        except TimeoutError:
            if deadline.received:  # else it is not the server's fault
                raise DeadlineExceededError(f"not answered within {self.answer_seconds:g} seconds") from None
            error = f"the body did not come, or got on, within {self.body_seconds:g} seconds"
            response = error_response(HTTPStatus.REQUEST_TIMEOUT, error, headers={"Connection": "close"})
            raise RefusedError(response) from None
        finally:
            deadline.send = None  # it knows the exchange: such a cycle lives until garbage is collected


class Deadline:
    """The time limit of a request: `body_seconds` for its body to get on, then `answer_seconds` for its answer.

    `limit` begins with the latter, from the request's head on, which will do for a body that arrives at once. `send`
    takes the message that tells BentoML that the request is being received, where that is understood. `received` says
    whether no more of the request is waited for.
    """

    received = True
    renewed = False

    def __init__(
        self,
        request: RequestContext,
        limit: asyncio.Timeout,
        answer_seconds: float,
        body_seconds: float,
        send: Send | None,
    ) -> None:
        self.request = request
        self.limit = limit
        self.answer_seconds = answer_seconds
        self.body_seconds = body_seconds
        self.send = send

    async def for_body(self) -> None:
        """Start the time limit for more of the body."""
        await self.anew(self.body_seconds)

    async def for_answer(self) -> None:
        """Note that the request has arrived; start the time limit for its answer, unless it arrived at once."""
        self.received = True
        now = time.monotonic()
        if self.renewed or now > self.request.deadline - self.answer_seconds + AT_ONCE_SECONDS:
            await self.anew(self.answer_seconds)
            self.request.deadline = now + self.answer_seconds

    async def anew(self, seconds: float) -> None:
        """Set the time limit to `seconds` from now; first tell BentoML, once, that the request is being received."""
        if self.send is not None:
            await self.send({"type": RECEIVING})
            self.send = None
        self.renewed = True
        self.limit.reschedule(asyncio.get_running_loop().time() + seconds)
