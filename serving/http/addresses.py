"""Checks of addresses in settings: origins as a browser sends them, URLs of HTTP, and paths."""

from __future__ import annotations

import re

# As a browser sends it: scheme, host and port in lower case, no path.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*+://(?:[^/?#@\s:A-Z]++|\[[0-9a-f:]++\])(?::[0-9]++)?+")

# Segments of unreserved characters (RFC 3986), none of them . or .. alone.
PATH = re.compile(r"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]++)++")


def is_origin(text: str) -> bool:
    """Return whether a text is an origin as a browser sends it."""
    return ORIGIN.fullmatch(text) is not None


def is_http_url(text: str) -> bool:
    """Return whether a text is an HTTP or HTTPS URL with a host, as urllib3 reads it."""
    from urllib3.exceptions import LocationParseError  # few servers need it
    from urllib3.util import parse_url

    try:
        url = parse_url(text)
    except LocationParseError:
        return False
    return url.scheme in ("http", "https") and bool(url.host)


def is_path(text: str) -> bool:
    """Return whether a text is a path without a slash at its end, or what would have to be escaped."""
    return PATH.fullmatch(text) is not None
