"""What the headers of a request say about it: its id, and what it allows caches to do."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping

from serving.http.sender import RawHeaders
from serving.inference.context import RequestContext

REQUEST_ID = re.compile(rb"[\w.:/+=@-]{1,128}")


def new_context(raw: RawHeaders, headers: Mapping[bytes, bytes], timeout_seconds: float) -> RequestContext:
    """Return the context of a request that has just arrived."""
    given = headers.get(b"x-request-id", b"")
    name = given.decode() if given and REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
    request = RequestContext(name, time.monotonic() + timeout_seconds)
    if b"cache-control" in headers:
        # Several lines count as one.
        values = b",".join(value for header, value in raw if header == b"cache-control")
        directives = {part.strip().lower() for part in values.split(b",")}
        request.no_store = b"no-store" in directives
        request.no_cache = request.no_store or b"no-cache" in directives
    return request
