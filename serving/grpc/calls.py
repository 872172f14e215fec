"""What every call goes through before and after it is answered, as the middlewares of HTTP do it.

Its key, the rate limit and the state of the worker are checked before its message is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import grpc
from grpc.aio import ServicerContext

from serving.grpc.errors import CallError, Failure, Metadata, cancelled, failure_of
from serving.grpc.held import Held
from serving.grpc.reading import Reads
from serving.grpc.unread import Unread, split_peer
from serving.grpc.wire import parse
from serving.http.errors import CLIENT_GONE, RefusedError
from serving.http.exchange import Exchange
from serving.http.guards import Guards
from serving.http.middleware.keys import refuse
from serving.http.middleware.rate_limit import take
from serving.http.middleware.request_context import new_context
from serving.http.proxies import client_address
from serving.inference import context as request_context
from serving.inference.errors import DeadlineExceededError
from serving.oip.errors import ProtocolError
from serving.telemetry import metrics, tracing
from serving.telemetry.metrics import Counted

log = logging.getLogger("tiffin.edge")
access = logging.getLogger("tiffin.access")

PROTOCOL = "grpc"
# Unread answers may take this part of what messages may: grpc holds each of them twice.
UNREAD_SHARE = 4
Headers = list[tuple[bytes, bytes]]
Answer = Callable[[Held, Exchange], Awaitable[Any]]


@dataclass(frozen=True)
class Rpc:
    """A method of a service: its path, and what answers its messages.

    A `public` one needs no key and is not counted by the rate limit, as probes are. `traced`: a span is recorded.
    """

    path: str
    answer: Answer
    public: bool = False
    traced: bool = False


class Calls:
    """Runs calls: admission, message, deadline, errors, metadata, metrics, access log and spans."""

    def __init__(self, guards: Guards, reads: Reads, timeout_seconds: float, message_seconds: float) -> None:
        self.guards = guards
        self.reads = reads
        self.unread = Unread(guards.in_flight.max_bytes // UNREAD_SHARE)
        self.timeout_seconds = timeout_seconds
        self.message_seconds = message_seconds
        self.answering = 0  # how many messages

    def unary_handler(self, rpc: Rpc) -> grpc.RpcMethodHandler:
        """Return the handler of a method of one message.

        For grpc it takes a stream, whose first message is not read before the handler asks for it.
        """

        async def handle(_: Any, context: ServicerContext) -> bytes:
            return await self.unary(rpc, context)

        return grpc.stream_unary_rpc_method_handler(handle)

    async def unary(self, rpc: Rpc, context: ServicerContext) -> bytes:
        """Answer a call of one message."""
        exchange, headers = self.exchange(rpc, context)
        outcome = await self.recorded(rpc, exchange, context, self.read_and_answer(rpc, exchange, headers, context))
        context.set_trailing_metadata(metadata_of(exchange, outcome))
        if isinstance(outcome, Failure):
            await abort(context, outcome)
            return b""
        answer: bytes = outcome.SerializeToString()
        sent = self.unread.add(len(answer), context.peer())
        if (task := asyncio.current_task()) is not None:
            task.add_done_callback(lambda _: sent())  # grpc sends the answer before it ends the task
        return answer

    async def stream(self, rpc: Rpc, context: ServicerContext, seconds: float, failed: Callable[[str], Any]) -> None:
        """Answer each message of a call, in their order; `failed` makes the answer to one that fails.

        The call ends where no message comes for `seconds`.
        """
        exchange, headers = self.exchange(rpc, context)
        context.set_trailing_metadata(metadata_of(exchange, None))
        try:
            if not rpc.public:
                await self.authenticate(exchange, headers, context)
            while (held := await self.reads.read(context, seconds)) is not None:
                each, _ = self.exchange(rpc, context)
                each.owner = exchange.owner
                outcome = await self.recorded(rpc, each, context, self.answer(rpc, held, each, headers, context))
                response = failed(outcome.text) if isinstance(outcome, Failure) else outcome
                answer = response.SerializeToString()
                sent = self.unread.add(len(answer), context.peer())
                try:
                    await context.write(answer)
                finally:
                    sent()
        except (RefusedError, CallError) as error:
            await abort(context, failure_of(error))

    async def requests(self, kind: Any, context: ServicerContext, max_bytes: int, seconds: float) -> AsyncIterator[Any]:
        """Yield the messages of a call, of a class; end the call where one cannot be taken or none comes in time."""
        try:
            while (held := await self.reads.read(context, seconds)) is not None:
                try:
                    await held.take()
                    message = parse(kind, held.pop(max_bytes))
                finally:
                    held.release()
                yield message
        except (CallError, RefusedError, ProtocolError) as error:
            await abort(context, failure_of(error))

    async def read_and_answer(self, rpc: Rpc, exchange: Exchange, headers: Headers, context: ServicerContext) -> Any:
        """Return the answer to the message of a call, which is not read before the call is admitted."""
        if not rpc.public:
            await self.authenticate(exchange, headers, context)
            await self.limit(exchange, headers, context)
        held = await self.reads.read(context, self.message_seconds)
        if held is None:
            raise ProtocolError("the call has no message")
        return await self.answered(rpc, held, exchange, context)

    async def answer(self, rpc: Rpc, held: Held, exchange: Exchange, headers: Headers, context: ServicerContext) -> Any:
        """Return the answer to a message of a stream, each of which counts for the rate limit."""
        if not rpc.public:
            await self.limit(exchange, headers, context)
        return await self.answered(rpc, held, exchange, context)

    async def answered(self, rpc: Rpc, held: Held, exchange: Exchange, context: ServicerContext) -> Any:
        """Return the answer to a message within the server's time and that of the client; hold the message meanwhile.

        Raises DeadlineExceededError, CallError, RefusedError and what the answer raises.
        """
        left = context.time_remaining()
        seconds = self.timeout_seconds if left is None else min(self.timeout_seconds, left)
        exchange.context.deadline = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await held.take()
                return await rpc.answer(held, exchange)
        except DeadlineExceededError:
            raise
        except TimeoutError:
            raise DeadlineExceededError(f"not answered within {seconds:g} seconds") from None
        finally:
            held.release()

    async def authenticate(self, exchange: Exchange, headers: Headers, context: ServicerContext) -> None:
        """Find the owner of the call's key; raise RefusedError where a key is needed and none is valid."""
        guards = self.guards
        if guards.keys.required:
            exchange.owner = guards.keys.owner(headers)
            if exchange.owner is None:
                await refuse(guards.failed_keys, self.address(headers, context), exchange)

    async def limit(self, exchange: Exchange, headers: Headers, context: ServicerContext) -> None:
        """Count a request for the rate limit; raise RefusedError where it is one too many."""
        if self.guards.limit is not None:
            await take(self.guards.limit, exchange.owner or self.address(headers, context), exchange, "requests")

    def address(self, headers: Headers, context: ServicerContext) -> str:
        """Return the address under which the client of a call is counted."""
        return client_address(split_peer(context.peer())[0], headers, self.guards.trusted_proxies)

    async def recorded(self, rpc: Rpc, exchange: Exchange, context: ServicerContext, work: Awaitable[Any]) -> Any:
        """Return the answer that `work` gives, or its Failure; trace, count and log it."""
        started = time.perf_counter()
        outcome: Any = None
        status: int = CLIENT_GONE
        self.answering += 1
        # Probes would bury the rest of the traces; those that are not POST have no span.
        scope = {"method": "POST" if rpc.traced else "GET", "path": rpc.path}
        with tracing.request_span(scope, exchange.headers, exchange.context.id) as span:
            try:
                outcome = await work
                status = HTTPStatus.OK
            except asyncio.CancelledError:
                status = cancelled(context.time_remaining())
                raise
            except Exception as error:
                outcome = failure_of(error)
                status = outcome.status
                if status == HTTPStatus.INTERNAL_SERVER_ERROR:
                    log.exception("%s failed", rpc.path)
                # What waits for the same output may hold the error, and its frames the message.
                error.__traceback__ = None
            finally:
                self.answering -= 1
                span.set_attribute("http.response.status_code", status)
                seconds = time.perf_counter() - started
                counted = Counted(PROTOCOL, rpc.path, exchange.model, exchange.version)
                metrics.count_request(counted, status, exchange.cache, seconds)
                if not access.disabled:
                    line = "gRPC %s %s, %.1f ms, cache %s"
                    access.info(line, rpc.path, status, seconds * 1000, exchange.cache)
        return outcome

    def exchange(self, rpc: Rpc, context: ServicerContext) -> tuple[Exchange, Headers]:
        """Return the exchange of a call that begins, and its metadata."""
        headers = [
            (key.encode(), value.encode() if isinstance(value, str) else value)
            for key, value in context.invocation_metadata()
        ]
        named = dict(reversed(headers))
        request = new_context(headers, named, self.timeout_seconds)
        exchange = Exchange(named, request, [(b"x-request-id", request.id.encode())])
        exchange.route, exchange.protocol = rpc.path, PROTOCOL
        request_context.current.set(request)
        return exchange, headers


def metadata_of(exchange: Exchange, outcome: Any) -> Metadata:
    """Return the trailing metadata of a call, which correspond to the headers of a response."""
    metadata = tuple((name.decode(), value.decode()) for name, value in exchange.response_headers)
    if not isinstance(outcome, Failure):
        return metadata
    known = {name for name, _ in metadata}
    return metadata + tuple(entry for entry in outcome.metadata if entry[0] not in known)


async def abort(context: ServicerContext, failure: Failure) -> None:
    """End a call with the code of a failure."""
    with contextlib.suppress(grpc.aio.BaseError):  # what abort itself raises, or grpc where the client is gone
        await context.abort(failure.code, failure.text)
