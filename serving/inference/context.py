"""The context of the request that is being answered."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum


class Priority(IntEnum):
    """Whether a client waits for the answer, or the work may use the time that others leave, as a background job."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(slots=True)
class RequestContext:
    """A request's id, its deadline (by `time.monotonic`), its priority, what it allows caches to do and what they did.

    `no_cache`: use no output that was computed before. `no_store`: store no output that is computed now.
    """

    id: str
    deadline: float
    no_cache: bool = False
    no_store: bool = False
    priority: Priority = Priority.INTERACTIVE
    hits: int = 0
    misses: int = 0
    # Seconds since the oldest cached output in the answer was computed.
    age: float = 0.0

    @property
    def cache_outcome(self) -> str:
        """`hit`, `partial` or `miss`: whether all, some or none of the request's outputs were cached."""
        if not self.hits:
            return "miss"
        return "partial" if self.misses else "hit"


current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def own_context(timeout_seconds: float, priority: Priority = Priority.INTERACTIVE) -> RequestContext:
    """Return a context for work that belongs to no request, or to several at once."""
    return RequestContext("-", time.monotonic() + timeout_seconds, priority=priority)
