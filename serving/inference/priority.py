"""The priority of threads that compute, below that of the thread that answers requests."""

from __future__ import annotations

import os
import sys
import threading

# In steps of `nice`.
LOWER_BY = 10


def lower_priority() -> None:
    """Let the calling thread run behind those that answer requests, so that these are refused or served at once."""
    if sys.platform == "linux":  # elsewhere priorities are a process's
        # A new thread has the priority of the one that made it, which may be lowered already.
        lowered = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + LOWER_BY, 19)
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < lowered:
            os.setpriority(os.PRIO_PROCESS, thread, lowered)
