"""Addresses that settings name: what a browser sends as an origin."""

from __future__ import annotations

import re

# As a browser sends it: scheme, host and port in lower case, no path.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*+://(?:[^/?#@\s:A-Z]++|\[[0-9a-f:]++\])(?::[0-9]++)?+")


def is_origin(text: str) -> bool:
    """Return whether a text is an origin as a browser sends it."""
    return ORIGIN.fullmatch(text) is not None
