"""Memory that is free, but not yet the system's again."""

from __future__ import annotations

import ctypes
import sys


def return_free_memory() -> None:
    """Return to the system what is free between small blocks, of which grpc makes large messages.

    glibc else keeps it. It takes tenths of a second for gigabytes: call it in a thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
