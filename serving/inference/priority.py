"""The priority of threads that compute, below that of the thread that answers requests."""

from __future__ import annotations

import os
import sys
import threading

# In steps of `nice`.
LOWER_BY = 10


def lower_priority(steps: int) -> None:
    """Lower the calling thread's priority below that of threads that answer requests, which then do so at once."""
    if sys.platform == "linux":  # elsewhere a priority belongs to a whole process
        # A new thread inherits the priority of the one that started it, which may be lowered already.
        lowered = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + steps, 19)
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < lowered:
            os.setpriority(os.PRIO_PROCESS, thread, lowered)
