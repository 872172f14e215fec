"""Errors as clients of gRPC see them: a status code, a text and metadata; and the table of what is raised."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import NamedTuple

from grpc import StatusCode

from models.model import InvalidInputError
from serving.http.errors import CLIENT_GONE, RefusedError
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError, UnknownModelError
from serving.oip.errors import ProtocolError

# A longer text would not fit into what clients admit as metadata.
MAX_TEXT = 1_000

Metadata = tuple[tuple[str, str], ...]


class CallError(Exception):
    """A call that is refused for what only gRPC knows, with its code and the status that HTTP has for it."""

    def __init__(self, code: StatusCode, status: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class Failure(NamedTuple):
    """How a call failed: the code, the status by which metrics count it, the text, and metadata."""

    code: StatusCode
    status: int
    text: str
    metadata: Metadata = ()


# The codes of what may be raised while a call is answered, and the statuses by which metrics count it, those of HTTP;
# anything else is a fault of the server.
CODES: dict[type[BaseException], tuple[StatusCode, int]] = {
    InvalidInputError: (StatusCode.INVALID_ARGUMENT, HTTPStatus.UNPROCESSABLE_ENTITY),
    ProtocolError: (StatusCode.INVALID_ARGUMENT, HTTPStatus.BAD_REQUEST),
    UnknownModelError: (StatusCode.NOT_FOUND, HTTPStatus.NOT_FOUND),
    # UNAVAILABLE has clients retry at once.
    OverloadedError: (StatusCode.RESOURCE_EXHAUSTED, HTTPStatus.SERVICE_UNAVAILABLE),
    DeadlineExceededError: (StatusCode.DEADLINE_EXCEEDED, HTTPStatus.GATEWAY_TIMEOUT),
    ModelFaultError: (StatusCode.INTERNAL, HTTPStatus.INTERNAL_SERVER_ERROR),
}
# The codes of what the checks that HTTP has, too, refuse: keys, the rate limit and bytes in flight.
REFUSED = {HTTPStatus.UNAUTHORIZED: StatusCode.UNAUTHENTICATED}


def failure_of(error: Exception) -> Failure:
    """Return how a call fails by an error."""
    if isinstance(error, CallError):
        return Failure(error.code, error.status, shortened(str(error)))
    if isinstance(error, RefusedError):
        response = error.response
        code = REFUSED.get(HTTPStatus(response.status_code), StatusCode.RESOURCE_EXHAUSTED)
        text = json.loads(bytes(response.body))["error"]
        retry = response.headers.get("retry-after")
        return Failure(code, response.status_code, text, () if retry is None else (("retry-after", retry),))
    kind = next((kind for kind in type(error).__mro__ if kind in CODES), ModelFaultError)
    code, status = CODES[kind]
    if kind is ModelFaultError:
        return Failure(code, status, "internal error")
    if isinstance(error, OverloadedError):
        seconds = max(1, math.ceil(error.retry_after_seconds))
        return Failure(code, status, "overloaded, try again later", (("retry-after", str(seconds)),))
    return Failure(code, status, shortened(str(error)))


def cancelled(seconds_left: float | None) -> int:
    """Return the status by which metrics count a call that was cancelled with this time left to its client."""
    return HTTPStatus.GATEWAY_TIMEOUT if seconds_left == 0 else CLIENT_GONE


def shortened(text: str) -> str:
    """Return a text as a status can have it."""
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()
