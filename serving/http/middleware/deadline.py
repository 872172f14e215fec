"""The time that a request may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.http.errors import RefusedError, error_response
from serving.http.exchange import EXCHANGE, Exchange
from serving.inference.context import RequestContext
from serving.inference.errors import DeadlineExceededError

# Most answers take less. What is to be done for the others, such as to watch for a client that leaves, waits for it.
# A body that has arrived by then came at once: its time counts towards that of the answer.
SLOW_SECONDS = 0.05


class DeadlineMiddleware:
    """ASGI middleware that gives a request up when its answer, or the rest of its body, takes too long."""

    def __init__(self, app: ASGIApp, answer_seconds: float, body_seconds: float) -> None:
        self.app = app
        self.answer_seconds = answer_seconds
        self.body_seconds = body_seconds
        self.running = RunningRequests(min(SLOW_SECONDS, answer_seconds))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app inside; raise DeadlineExceededError, or RefusedError where the body did not come in time."""
        exchange: Exchange = scope[EXCHANGE]
        deadline = exchange.deadline = Deadline(exchange.context, self.running, self.answer_seconds, self.body_seconds)
        try:
            with deadline:
                await self.app(scope, receive, send)
        except DeadlineExceededError:  # a shorter one, that the client has set
            raise
        except TimeoutError:
            if deadline.received:  # else it is not the server's fault
                raise DeadlineExceededError(f"not answered within {self.answer_seconds:g} seconds") from None
            error = f"the body did not come, or got on, within {self.body_seconds:g} seconds"
            response = error_response(HTTPStatus.REQUEST_TIMEOUT, error, headers={"Connection": "close"})
            raise RefusedError(response) from None


class RunningRequests:
    """The requests that are being answered, of which those are told that have become slow: after `seconds`.

    One timer of the event loop does for all of them: those of each took a twentieth of the time of an answer.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.begun: dict[Deadline, float] = {}  # the earliest first
        self.timer: asyncio.TimerHandle | None = None

    def add(self, deadline: Deadline, now: float) -> None:
        """Tell a request that begins at `now`, by its event loop's time, once it is slow."""
        self.begun[deadline] = now
        if self.timer is None:
            self.timer = deadline.loop.call_at(now + self.seconds, self.tell, deadline.loop)

    def remove(self, deadline: Deadline) -> None:
        """Tell a request nothing any more."""
        self.begun.pop(deadline, None)

    def tell(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell those requests that are slow, and wait for the next."""
        self.timer = None
        latest = loop.time() - self.seconds
        while self.begun:
            deadline, begun = next(iter(self.begun.items()))
            if begun > latest:
                self.timer = loop.call_at(begun + self.seconds, self.tell, loop)
                return
            del self.begun[deadline]
            deadline.become_slow()


class Deadline:
    """The time limit of a request: `body_seconds` for each step of its body's arrival, then `answer_seconds`.

    It starts at the request's head with `answer_seconds`, which also covers a body that arrives at once; one that has
    not come once the request is slow has its own time. As a context manager it raises TimeoutError when the code
    inside takes longer; so does `asyncio.timeout`, but that would make an answer from the cache a tenth slower.
    `received` says whether the request has fully arrived, as far as is known.
    """

    received = True
    renewed = slow = expired = False
    timer: asyncio.TimerHandle | None = None
    on_slow: Callable[[], None] | None = None

    def __init__(
        self, request: RequestContext, running: RunningRequests, answer_seconds: float, body_seconds: float
    ) -> None:
        self.request = request
        self.running = running
        self.answer_seconds = answer_seconds
        self.body_seconds = body_seconds

    def __enter__(self) -> None:
        """Start the time limit."""
        self.loop = loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101
        self.task = task
        self.cancelling = task.cancelling()
        now = loop.time()
        self.ends = now + self.answer_seconds
        self.running.add(self, now)

    def become_slow(self) -> None:
        """Set the timer, and call who waits for it: the request, or its body, takes long."""
        self.slow = True
        if self.received:
            self.set_timer()
        else:
            self.renew(self.body_seconds)
        if self.on_slow is not None:
            self.on_slow()

    def when_slow(self, call: Callable[[], None] | None) -> None:
        """Have a function called once the request takes long, or now if it has; or no function."""
        self.on_slow = call
        if self.slow and call is not None:
            call()

    def set_timer(self) -> None:
        """Have the request cancelled at the end of its time limit."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.loop.call_at(self.ends, self.expire)

    def expire(self) -> None:
        """Cancel what takes too long."""
        self.expired = True
        self.task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the time limit; raise TimeoutError when it has cancelled the code inside, and nobody else has."""
        self.running.remove(self)
        if self.timer is not None:
            self.timer.cancel()
        if self.expired and self.task.uncancel() <= self.cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    async def for_body(self) -> None:
        """Start the time limit for more of the body."""
        self.renew(self.body_seconds)

    async def for_answer(self) -> None:
        """Note that the request has arrived; start the time limit for its answer, unless it arrived at once."""
        self.received = True
        now = time.monotonic()
        if self.renewed or now > self.request.deadline - self.answer_seconds + SLOW_SECONDS:
            self.renew(self.answer_seconds)
            self.request.deadline = now + self.answer_seconds

    def renew(self, seconds: float) -> None:
        """Set the time limit to `seconds` from now."""
        self.renewed = True
        self.ends = self.loop.time() + seconds
        self.set_timer()
