"""Errors as clients see them: `{"error": str, "detail": [...]}` and a status."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse


def is_server_fault(record: logging.LogRecord) -> bool:
    """Return whether a log record is about more than a request that BentoML refused or whose client has gone.

    What a model raises reaches BentoML as ModelFaultError, so a ValidationError that BentoML logs is the request's.
    """
    if record.name.partition(".")[0] != "bentoml" or not record.exc_info:
        return True
    error = record.exc_info[1]
    # Raised by BentoML's dispatcher of batches when a request is cancelled.
    cancelled = error is not None and isinstance(error.__context__, asyncio.CancelledError)
    return not cancelled and not isinstance(error, ValidationError)


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
    problems: Sequence[ErrorDetail] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error as a response, with an `ErrorBody`."""
    body = ErrorBody(error=error, detail=list(problems))
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def overloaded(retry_after_seconds: float, cause: str = "") -> JSONResponse:
    """Return a 503 for what could not be computed in time or, by the `cause`, not be received at all."""
    return error_response(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded, try again later" + (f": {cause}" if cause else ""),
        headers={"Retry-After": str(max(1, math.ceil(retry_after_seconds)))},
    )


def unprocessable(problems: Sequence[ErrorDetail]) -> JSONResponse:
    """Return a 422 for a request that can be read but does not fit the schema."""
    count = f"{len(problems)} problem" + "s" * (len(problems) != 1)
    return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, f"invalid request: {count}", problems)


def validation_response(detail: Sequence[Mapping[str, Any]]) -> JSONResponse:
    """Return a 400 for unreadable JSON, else a 422, from the errors that pydantic reports."""
    problems = [ErrorDetail(loc=list(entry["loc"]), msg=entry["msg"], type=entry["type"]) for entry in detail]
    if any(problem.type == "json_invalid" for problem in problems):
        return error_response(HTTPStatus.BAD_REQUEST, "the body is not valid JSON", problems)
    return unprocessable(problems)
