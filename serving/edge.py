"""The edge: the first thing that sees a request and the last that sees its answer."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.errors import Problem, error_response, unprocessable, validation_response

log = logging.getLogger("tiffin.edge")

# A file's name becomes the end of a temporary file's name, which file systems limit to 255 bytes.
MAX_FILENAME_BYTES = 200


@dataclass(frozen=True)
class Endpoint:
    """What the edge admits at a path; without `files` a body is JSON, with them multipart."""

    method: str
    max_body_bytes: int = 0
    files: frozenset[str] = frozenset()


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Edge:
    """ASGI middleware: refuses what cannot succeed and gives every error the same form.

    Requests to unknown paths, with the wrong method, too large, of a wrong media type or with an
    unreadable form never reach BentoML. What it answers with an error is brought into the form of
    `ErrorBody`. What takes longer than `timeout_seconds` is given up. `system` answers GET requests to
    `endpoints`, BentoML those to paths that start with one of `passed_on`.
    """

    def __init__(
        self,
        app: ASGIApp,
        system: ASGIApp,
        endpoints: Mapping[str, Endpoint],
        passed_on: tuple[str, ...],
        timeout_seconds: float,
    ) -> None:
        self.app = app
        self.system = system
        self.endpoints = endpoints
        self.passed_on = passed_on
        self.timeout_seconds = timeout_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, by the app or without it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = Answer(send)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                refusal = await self.pass_on(scope, receive, answer)
        except ClientGoneError:
            return
        except TimeoutError:
            refusal = error_response(
                HTTPStatus.GATEWAY_TIMEOUT, f"not answered within {self.timeout_seconds:g} seconds"
            )
        except Exception:
            # It must not leave: nothing outside answers the client, which would wait for the time-out.
            log.exception("%s %s failed", scope["method"], scope["path"])
            refusal = error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        if refusal is not None and answer.status is None:
            await refusal(scope, receive, answer.send_through)
        route = scope["path"] if scope["path"] in self.endpoints else "other"
        metrics.requests.labels(route, str(answer.status)).inc()
        metrics.request_seconds.labels(route).observe(time.perf_counter() - started)

    async def pass_on(self, scope: Scope, receive: Receive, answer: Answer) -> Response | None:
        """Have the app answer; or return the refusal of a request that it need not see."""
        path: str = scope["path"]
        endpoint = self.endpoints.get(path)
        app = self.system
        if endpoint is None:
            if not path.startswith(self.passed_on):
                return error_response(HTTPStatus.NOT_FOUND, "no such path")
            endpoint, app = Endpoint("GET"), self.app
        if scope["method"] != endpoint.method and (scope["method"], endpoint.method) != ("HEAD", "GET"):
            return error_response(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{scope['method']} is not allowed here, use {endpoint.method}",
                headers={"Allow": endpoint.method},
            )
        if endpoint.method != "POST":
            await app(scope, receive, answer.send)
            return None

        headers = Headers(scope=scope)
        expected = "multipart/form-data" if endpoint.files else "application/json"
        if media_type(headers.get("content-type", expected)) != expected:
            return error_response(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {expected}")
        body = await read_body(headers, receive, endpoint.max_body_bytes)
        if body is None:
            return error_response(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {endpoint.max_body_bytes:,} bytes"
            )
        if endpoint.files:
            refusal = await check_form(headers, body, endpoint.files)
            if refusal is not None:
                return refusal
        elif not body:
            # BentoML would take it for an empty object.
            return validation_response([{"loc": [], "msg": "Invalid JSON: the body is empty", "type": "json_invalid"}])
        await self.app(scope, replay(body, receive), answer.send)
        return None


class Answer:
    """The way of an answer to the client; errors are held back until they are complete, then rewritten."""

    def __init__(self, send: Send) -> None:
        self.client = send
        self.status: int | None = None
        self.held: Message | None = None
        self.body = b""

    async def send_through(self, message: Message) -> None:
        """Send as it is."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self.client(message)

    async def send(self, message: Message) -> None:
        """Send a success as it is, an error in the form of `ErrorBody`."""
        if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
            self.held = message
        elif self.held is None:
            await self.send_through(message)
        else:
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                response = uniform(self.held["status"], self.body)
                for name, value in Headers(raw=self.held["headers"]).items():
                    if name in ("retry-after", "allow"):
                        response.headers[name] = value
                await self.send_through(
                    {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
                )
                await self.send_through({"type": "http.response.body", "body": response.body})


def uniform(status: int, body: bytes) -> Response:
    """An error's answer in the form of `ErrorBody`, whatever form it has."""
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


def media_type(content_type: str) -> str:
    """The media type of a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


async def read_body(headers: Headers, receive: Receive, most: int) -> bytes | None:
    """The whole body, or None when it has more than `most` bytes; ClientGoneError when it ends early."""
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > most:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives `body` first and then what the client does."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def check_form(headers: Headers, body: bytes, files: frozenset[str]) -> Response | None:
    """The refusal of a form that cannot be read or that BentoML would fail on or take for something else."""

    async def stream() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(headers, stream()).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, UnicodeError) as error:
        message = error.message if isinstance(error, MultiPartException) else "it cannot be read"
        return error_response(HTTPStatus.BAD_REQUEST, f"the body is not a valid form: {message}")
    problems = [problem for name, value in form.multi_items() if (problem := form_problem(name, value, files))]
    await form.close()
    return unprocessable(problems) if problems else None


def form_problem(name: str, value: UploadFile | str, files: frozenset[str]) -> Problem | None:
    """What is wrong with a field of a form, where the fields `files` are to be files and no others."""
    if isinstance(value, UploadFile):
        if name not in files:
            return Problem(loc=[name], msg="Input should not be a file", type="unexpected_file")
        if len((value.filename or "").encode()) > MAX_FILENAME_BYTES:
            return Problem(loc=[name], msg="The filename is too long", type="filename_too_long")
        return None
    if name in files:
        # BentoML would take it for an address and download that.
        return Problem(loc=[name], msg="Input should be a file with a filename", type="file_type")
    try:
        json.loads(value)
    except json.JSONDecodeError:
        return None  # taken as text
    except (ValueError, RecursionError):
        return Problem(loc=[name], msg="Input is nested too deeply or a number too long", type="json_invalid")
    return None
