"""The log: lines for a terminal, JSON objects for a log collector."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pythonjsonlogger.json import JsonFormatter

from serving.inference import context
from serving.inference.instruction_set import instruction_set
from serving.telemetry import tracing

log = logging.getLogger("tiffin.start")


def configure(access_log: bool) -> None:
    """Send all that this process logs to standard error, in one format, with the id of the request."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(add_request)
    # BentoML also writes a traceback for every request that it refuses.
    handler.addFilter(is_server_fault)
    if sys.stderr.isatty():
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"))
    else:
        handler.setFormatter(
            JsonFormatter(
                "%(asctime)s %(levelname)s %(name)s %(message)s %(request_id)s %(trace_id)s",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
            )
        )
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.INFO)
    for name in ("bentoml", "uvicorn", "uvicorn.error", "uvicorn.access", "circus", "tiffin"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
    # With no handler in reach, uvicorn does not even format its line; the edge's own line says more.
    logging.getLogger("uvicorn.access").propagate = False
    logging.getLogger("tiffin.access").disabled = not access_log


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


class LineFormatter(logging.Formatter):
    """Formats lines for a terminal; escapes what could break or colour them, such as a path that a client sends."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line, with escapes for characters that cannot be printed."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the lines of a traceback, each with such escapes."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


def printable(text: str) -> str:
    """Return a text with escapes for the characters that cannot be printed."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def log_start(models: Sequence[str], workers: int, threads: int, grpc_port: int | None) -> None:
    """Log which models a worker serves, by their tags, and on what; a JSON object has a field for each."""
    where: dict[str, Any] = {"workers": workers, "session_threads": threads, "instruction_set": instruction_set()}
    if grpc_port:
        where["grpc_port"] = grpc_port
    told = ", ".join([*models, *(f"{name} {value}" for name, value in where.items())])
    log.info("ready: %s", told, extra={"models": models, **where})


def log_end(seconds: float) -> None:
    """Log that the server is about to end, since it would otherwise seem to have ignored the signal."""
    log.info("ending in %g s, in which requests are still answered", seconds)


def add_request(record: logging.LogRecord) -> bool:
    """Add the ids of its request and trace to a log record."""
    request = context.current.get()
    record.request_id = request.id if request else None
    record.trace_id = tracing.trace_id()
    return True
