"""Checks of addresses in settings: origins as a browser sends them, and URLs of HTTP."""

from __future__ import annotations

import re

# As a browser sends it: scheme, host and port in lower case, no path.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*+://(?:[^/?#@\s:A-Z]++|\[[0-9a-f:]++\])(?::[0-9]++)?+")


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
