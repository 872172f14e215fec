"""The errors that the engine raises; each transport maps them to its own in one table."""

from __future__ import annotations

from models.model import InvalidInputError


class OverloadedError(Exception):
    """The items cannot be computed in time; a retry after `retry_after_seconds` may succeed."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("overloaded")
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceededError(TimeoutError):
    """The deadline passed before there was an output."""


class UnknownModelError(LookupError):
    """No such model, or no such version of it, is loaded."""


class ModelFaultError(RuntimeError):
    """A model failed on valid input: its graph does not give one output per item, or its own code fails."""


def without_frames(error: InvalidInputError) -> InvalidInputError:
    """Return an error without its causes and frames, which would keep the item alive until garbage is collected."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
