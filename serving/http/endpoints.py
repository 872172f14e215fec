"""What each path accepts, and the guards in front of all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from serving.http.access import ApiKeys, RateLimit
from serving.http.body import BytesInFlight
from serving.http.bounds import MIN_VALUES
from serving.http.proxies import Network
from serving.http.response_cache import ResponseCache


@dataclass(frozen=True)
class Endpoint:
    """What the edge admits at a path; without `files` a body is JSON, with them multipart.

    `max_values`: most values of a JSON body. `max_parts`: most parts of a form. `public`: open to everybody, without a
    key and however often. `cacheable`: equal bodies get equal answers. `answer`: makes the answer to a JSON body or to
    the fields of a form; without it BentoML does, to a JSON body as `rewrite` leaves it.
    `version`: returns the version of the model that answers, empty where none does.
    """

    method: str
    max_body_bytes: int = 0
    max_values: int = MIN_VALUES
    files: frozenset[str] = frozenset()
    max_parts: int = 100
    public: bool = False
    cacheable: bool = False
    answer: Callable[[Any], Awaitable[Response]] | None = None
    rewrite: Callable[[bytes], bytes] | None = None
    version: Callable[[], str] = str


@dataclass
class Guards:
    """What stands between a request and its answer; the worker sets it up when it starts."""

    keys: ApiKeys
    limit: RateLimit | None
    answers: ResponseCache
    in_flight: BytesInFlight
    # The limit for requests without a valid key, by address; and the proxies that may name a client's address.
    failed_keys: RateLimit | None = None
    trusted_proxies: Sequence[Network] = ()
    # The server is about to end; connections are not kept, so that clients go elsewhere.
    draining: bool = False
