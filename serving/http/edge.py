"""The edge: the first thing that sees a request and the last that sees its answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http import admission
from serving.http.body import (
    RECEIVING,
    ClientGoneError,
    RefusedError,
    RequestBody,
    parse_beside,
    too_large,
    utf8,
)
from serving.http.bounds import has_more_values
from serving.http.endpoints import Endpoint, Guards
from serving.http.errors import error_response, validation_response
from serving.http.forms import Form
from serving.http.request_context import new_context
from serving.http.sender import ResponseSender, Wait
from serving.inference import context
from serving.inference.errors import UnknownModelError
from serving.telemetry import metrics, tracing

log = logging.getLogger("tiffin.edge")
access = logging.getLogger("tiffin.access")

# A Content-Length of fewer digits is that of a body which may arrive at once.
FEW_DIGITS = 7
# What nginx logs for a client that closed the connection before it was answered.
CLIENT_GONE = 499


class Edge:
    """ASGI middleware that refuses what cannot succeed, answers what is known and gives every error the same form.

    Requests to unknown paths, with the wrong method, without a valid key, over the rate limit, too large,
    of a wrong media type or with an unreadable form never reach BentoML, nor do those whose body was answered
    before. An error of BentoML is brought into the form of `ErrorBody`. A request that takes longer than
    `timeout_seconds` to answer, or whose body makes no progress for `body_timeout_seconds`, is given up, and so is
    one that nobody waits for any more. `system` answers GET requests to `endpoints`, BentoML those to paths that
    start with one of `passed_on`.
    """

    def __init__(
        self,
        app: ASGIApp,
        system: ASGIApp,
        endpoints: Mapping[str, Endpoint],
        passed_on: tuple[str, ...],
        timeout_seconds: float,
        body_timeout_seconds: float,
        guards: Guards,
    ) -> None:
        self.app = app
        self.system = system
        self.endpoints = endpoints
        self.passed_on = passed_on
        self.timeout_seconds = timeout_seconds
        self.body_timeout_seconds = body_timeout_seconds
        self.guards = guards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, through the app or without it; trace, count and log it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(reversed(scope["headers"]))  # of several lines the first, as BentoML does
        request = new_context(scope["headers"], headers, self.timeout_seconds)
        sender = ResponseSender(send, request, RECEIVING in scope.get("extensions", ()))
        if self.guards.draining:
            sender.extra.append((b"connection", b"close"))
        # Each request has a task of its own, so this need not be reset.
        context.current.set(request)
        with tracing.request_span(scope, headers, request.id) as span:
            await self.respond(scope, headers, receive, sender)
            status = sender.status or CLIENT_GONE
            span.set_attribute("http.response.status_code", status)
            seconds = time.perf_counter() - started
            route = scope["path"] if scope["path"] in self.endpoints else "other"
            metrics.count_request(route, status, sender.outcome, seconds)
            if not access.disabled:  # within the span, so that the line names the trace
                access.info(
                    "%s %s %s, %.1f ms, cache %s",
                    scope["method"],
                    scope["path"],
                    status,
                    seconds * 1000,
                    sender.outcome,
                )

    async def respond(
        self, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, sender: ResponseSender
    ) -> None:
        """Answer a request, with an error if need be."""
        limit = asyncio.timeout(self.timeout_seconds)
        try:
            async with limit:
                refusal = await self.dispatch(scope, headers, receive, sender, limit)
        except TimeoutError:
            refusal = self.too_late(sender.received)
        except RefusedError as error:
            refusal = error.response
        except UnknownModelError as error:
            refusal = error_response(HTTPStatus.NOT_FOUND, str(error))
        except ClientGoneError:
            # BentoML's time-out waits for an answer to begin, and so does the server's end; this one reaches nobody.
            refusal = Response(status_code=CLIENT_GONE)
        except Exception:
            # It must not escape: nothing outside answers the client, which would wait for the time-out.
            log.exception("%s %s failed", scope["method"], scope["path"])
            refusal = error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        if refusal is not None and sender.status is None:
            await refusal(scope, receive, sender.send_through)

    async def dispatch(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        sender: ResponseSender,
        limit: asyncio.Timeout,
    ) -> Response | None:
        """Have the app answer a request, or return the refusal of one that it need not see."""
        path: str = scope["path"]
        endpoint = self.endpoints.get(path)
        app = self.system
        if endpoint is None:
            if not path.startswith(self.passed_on):
                return error_response(HTTPStatus.NOT_FOUND, "no such path")
            endpoint, app = Endpoint("GET", public=True), self.app
        if scope["method"] != endpoint.method and (scope["method"], endpoint.method) != ("HEAD", "GET"):
            return error_response(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{scope['method']} is not allowed here, use {endpoint.method}",
                headers={"Allow": endpoint.method},
            )
        guarded = not endpoint.public and (self.guards.keys.required or self.guards.limit is not None)
        if guarded and (refusal := await admission.refusal(scope, self.guards, sender)) is not None:
            return refusal
        if endpoint.method != "POST":
            sender.received = True
            await app(scope, receive, sender.send)
            return None

        expected = b"multipart/form-data" if endpoint.files else b"application/json"
        if media_type(headers.get(b"content-type", expected)) != expected:
            return error_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {expected.decode()}")

        content_type = headers.get(b"content-type", b"")
        sender.cacheable = endpoint.cacheable
        sender.answers_for(endpoint.version())
        first = None
        declared = headers.get(b"content-length", b"")
        if len(declared) < FEW_DIGITS and declared.isdigit() and int(declared) <= endpoint.max_body_bytes:
            # Nearly always the whole body arrives at once; then a known answer is sent before anything else is done.
            first = await receive()
            whole = not first.get("more_body", True) and b"content-encoding" not in headers
            if whole and await self.guards.answers.serve(path, content_type, first.get("body", b""), sender):
                return None
        if b"content-encoding" in headers:  # several lines count as one
            codings = [value for name, value in scope["headers"] if name == b"content-encoding"]
            headers = {**headers, b"content-encoding": b",".join(codings)}
        wait = Wait(sender, limit, self.body_timeout_seconds, self.timeout_seconds)
        body = RequestBody(headers, first, receive, endpoint.max_body_bytes, self.guards.in_flight, wait.for_body)
        try:
            answer_body = self.answer_form if endpoint.files else self.answer_json
            return await answer_body(endpoint, scope, content_type, body, wait)
        finally:
            body.release()

    async def answer_json(
        self, endpoint: Endpoint, scope: Scope, content_type: bytes, body: RequestBody, wait: Wait
    ) -> Response | None:
        """Answer a request with a JSON body, or return its refusal."""
        whole = await body.all()
        await wait.for_answer()
        if await self.guards.answers.serve(scope["path"], content_type, whole, wait.sender):
            return None
        data = utf8(whole, content_type)
        if not data:
            # BentoML would take it for an empty object.
            return validation_response([{"loc": [], "msg": "Invalid JSON: the body is empty", "type": "json_invalid"}])
        if len(data) > endpoint.max_values and await has_more_values(data, endpoint.max_values):
            return too_large(f"{endpoint.max_values:,} values")
        if endpoint.rewrite is not None:
            data = await parse_beside(endpoint.rewrite, data)
        await self.call(endpoint, scope, data, data, body.receive, wait.sender)
        return None

    async def answer_form(
        self, endpoint: Endpoint, scope: Scope, content_type: bytes, body: RequestBody, wait: Wait
    ) -> Response | None:
        """Answer a request with a form, or return its refusal."""
        # Where BentoML answers, it reads the body again, so all of it is kept.
        start = await (body.start() if endpoint.answer else body.all())
        if body.complete:
            await wait.for_answer()
            if await self.guards.answers.serve(scope["path"], content_type, start, wait.sender):
                return None
        with Form(content_type, endpoint.files, endpoint.max_parts, keep=bool(endpoint.answer)) as form:
            await form.read(start, body.pieces)
            if not wait.sender.received:
                await wait.for_answer()
            await self.call(endpoint, scope, form.fields, start, body.receive, wait.sender)
        return None

    def too_late(self, received: bool) -> Response:
        """Return the answer to a request whose time is over: the server's fault only if all of it had arrived."""
        if received:
            return error_response(HTTPStatus.GATEWAY_TIMEOUT, f"not answered within {self.timeout_seconds:g} seconds")
        error = f"the body did not come, or got on, within {self.body_timeout_seconds:g} seconds"
        return error_response(HTTPStatus.REQUEST_TIMEOUT, error, headers={"Connection": "close"})

    async def call(
        self, endpoint: Endpoint, scope: Scope, content: Any, body: bytes, receive: Receive, sender: ResponseSender
    ) -> None:
        """Have the endpoint answer `content`, or BentoML `body`; raise ClientGoneError if the client has gone."""
        # Cancelling the work for a client that is gone lets the batcher drop its items.
        task = asyncio.current_task()
        gone = False

        def leave(watch: asyncio.Task[Message]) -> None:
            nonlocal gone
            if watch.cancelled() or sender.complete or task is None:
                return
            gone = watch.exception() is not None or watch.result()["type"] == "http.disconnect"
            if gone:
                task.cancel()

        watch = asyncio.ensure_future(receive())
        watch.add_done_callback(leave)
        try:
            if endpoint.answer is None:
                await self.app(scope, replay(body), sender.send)
            else:
                response = await endpoint.answer(content)
                await response(scope, receive, sender.send)
        except asyncio.CancelledError:
            if not gone or task is None:
                raise
            task.uncancel()
            raise ClientGoneError from None
        finally:
            watch.cancel()


def media_type(content_type: bytes) -> bytes:
    """Return the media type of a Content-Type header, without its parameters."""
    return content_type.partition(b";")[0].strip().lower()


def replay(body: bytes) -> Receive:
    """Return a `receive` that gives `body` once and then waits: the edge itself watches for the client to leave."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            await asyncio.get_running_loop().create_future()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
