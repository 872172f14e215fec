"""Why the engine gives no output; each transport has one table of them."""

from __future__ import annotations

from models.model import InvalidInputError


class OverloadedError(Exception):
    """What is asked for cannot be computed in time; after `retry_after_seconds` it may be."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__("overloaded")
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceededError(TimeoutError):
    """The deadline passed before there was an output."""


class UnknownModelError(LookupError):
    """No such model, or no such version of it, is loaded."""


class ModelFaultError(RuntimeError):
    """A model failed on what fits its schema: its graph does not give one output per item, or its own code fails."""


def without_frames(error: InvalidInputError) -> InvalidInputError:
    """Return an error without what led to it, which would keep the item until garbage is collected."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
