"""Addresses that settings name: what a browser sends as an origin, and URLs that can be asked."""

from __future__ import annotations

import re

# As a browser sends it: scheme, host and port in lower case, no path.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*+://(?:[^/?#@\s:A-Z]++|\[[0-9a-f:]++\])(?::[0-9]++)?+")


def is_origin(text: str) -> bool:
    """Return whether a text is an origin as a browser sends it."""
    return ORIGIN.fullmatch(text) is not None


def is_http_url(text: str) -> bool:
    """Return whether a text is a URL of HTTP with a host, as urllib3 reads it."""
    from urllib3.exceptions import LocationParseError  # needed by few
    from urllib3.util import parse_url

    try:
        url = parse_url(text)
    except LocationParseError:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
