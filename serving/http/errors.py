"""Errors as clients see them, `{"error": str, "detail": [...]}` and a status, and the table of what is raised."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from models.model import InvalidInputError
from serving.inference.errors import DeadlineExceededError, ModelFaultError, OverloadedError, UnknownModelError
from serving.jobs.errors import (
    JobStateError,
    KeyReusedError,
    MissingFileError,
    StoreFullError,
    StoreUnavailableError,
    TooManyJobsError,
    UnfinishedError,
    UnknownJobError,
)
from serving.oip.errors import ProtocolError

# What nginx logs for a client that closed the connection before it was answered.
CLIENT_GONE = 499
# After which another job may be admitted.
JOBS_RETRY_SECONDS = "10"


class ClientGoneError(Exception):
    """The client closed the connection before its request was answered."""


class RefusedError(Exception):
    """A request cannot be taken; `response` tells the client why."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


class ErrorDetail(BaseModel):
    """One thing that is wrong with a request: where, what, and a machine-readable type."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorBody(BaseModel):
    """Body of every answer that is not a success."""

    error: str
    detail: list[ErrorDetail]


def error_response(
    status: HTTPStatus,
    error: str,
    details: Sequence[ErrorDetail] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error as a response, with an `ErrorBody`."""
    body = ErrorBody(error=error, detail=list(details))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def overloaded(retry_after_seconds: float, cause: str = "") -> JSONResponse:
    """Return a 503 with Retry-After; `cause` says what is lacking when it is not computing time."""
    return error_response(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded, try again later" + (f": {cause}" if cause else ""),
        headers={"Retry-After": str(max(1, math.ceil(retry_after_seconds)))},
    )


def unprocessable(details: Sequence[ErrorDetail], error: str = "") -> JSONResponse:
    """Return a 422 for a request that can be read but does not fit the schema; `error` else counts the details."""
    count = f"{len(details)} problem" + "s" * (len(details) != 1)
    return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, error or f"invalid request: {count}", details)


def validation_response(errors: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """Return a 400 for unreadable JSON, else a 422, from the errors that pydantic reports."""
    details = [ErrorDetail(loc=list(entry["loc"]), msg=entry["msg"], type=entry["type"]) for entry in errors]
    if any(detail.type == "json_invalid" for detail in details):
        return error_response(HTTPStatus.BAD_REQUEST, "the body is not valid JSON", details)
    return unprocessable(details)


def invalid_input(error: InvalidInputError, text: str = "") -> Response:
    """Return the 422 for what fits the schema but cannot be used; `text` as `unprocessable` takes it."""
    return unprocessable([ErrorDetail(loc=list(error.location), msg=str(error), type=error.kind)], text)


# What may be raised while a request is answered, and the response to it; anything else is a fault of the server.
RESPONSES: dict[type[Exception], Callable[[Any], Response]] = {
    RefusedError: lambda error: error.response,
    # BentoML's time-out waits for an answer to begin, and so does the server's end; this one reaches nobody.
    ClientGoneError: lambda error: Response(status_code=CLIENT_GONE),
    InvalidInputError: invalid_input,
    OverloadedError: lambda error: overloaded(error.retry_after_seconds),
    DeadlineExceededError: lambda error: error_response(HTTPStatus.GATEWAY_TIMEOUT, str(error)),
    ProtocolError: lambda error: error_response(HTTPStatus.BAD_REQUEST, str(error)),
    UnknownModelError: lambda error: error_response(HTTPStatus.NOT_FOUND, str(error)),
    UnknownJobError: lambda error: error_response(HTTPStatus.NOT_FOUND, str(error)),
    UnfinishedError: lambda error: error_response(HTTPStatus.BAD_REQUEST, str(error)),
    JobStateError: lambda error: error_response(HTTPStatus.CONFLICT, str(error)),
    KeyReusedError: lambda error: unprocessable(
        [ErrorDetail(loc=["header", "Idempotency-Key"], msg=str(error), type="idempotency_key")]
    ),
    TooManyJobsError: lambda error: error_response(
        HTTPStatus.TOO_MANY_REQUESTS, str(error), headers={"Retry-After": JOBS_RETRY_SECONDS}
    ),
    StoreFullError: lambda error: overloaded(int(JOBS_RETRY_SECONDS), str(error)),
    MissingFileError: lambda error: error_response(HTTPStatus.NOT_FOUND, "the files of the task are gone"),
    StoreUnavailableError: lambda error: overloaded(1, "the job store does not answer"),
    ModelFaultError: lambda error: error_response(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error"),
}


def response_to(error: Exception) -> Response:
    """Return the response to an error."""
    for kind in type(error).__mro__:
        if kind in RESPONSES:
            return RESPONSES[kind](error)
    return RESPONSES[ModelFaultError](error)
