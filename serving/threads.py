"""Work in threads, which goes on when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


async def to_its_end(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread; where that is cancelled, wait for the thread all the same, since it goes on."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    finally:
        del running  # it may hold an error, which holds this frame
