"""Wait until Redis answers: `python -m serving.wait_for_redis [seconds]`, before the server starts.

Prints what happened, and exits with 0 even when Redis does not answer: without it the server is slower, no worse.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

from redis.exceptions import NoPermissionError

from serving.caching.redis_client import connect
from serving.variables import new_name, variable

WAIT_SECONDS = 30.0
ATTEMPT_SECONDS = 2.0
PAUSE_SECONDS = 0.25


async def wait_for_redis(url: str, seconds: float) -> str:
    """Wait until a Redis at `url` answers, or for so many seconds; return what happened, without the password."""
    if not url:
        return f"{new_name('redis_url')} is not set: there is no Redis to wait for"
    try:
        client = connect(url, ATTEMPT_SECONDS)
    except ValueError as error:
        return f"{variable('redis_url') or new_name('redis_url')} is not valid: {error}"
    started = time.monotonic()
    fault = "no reply"
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if await answers(client):
                        return f"Redis answers after {time.monotonic() - started:.1f} s"
                except Exception as error:  # a server other than Redis makes redis-py fail in many ways
                    fault = f"{type(error).__name__}: {error}"[:200]
                await asyncio.sleep(PAUSE_SECONDS)
    except TimeoutError:
        return f"Redis does not answer after {seconds:g} s, going on without it: {fault}"


async def answers(client: Any) -> bool:
    """Return whether Redis answers PING, even if only that this user may not send it."""
    try:
        return bool(await client.ping())
    except NoPermissionError:
        return True


async def main() -> None:
    """Wait for Redis, print what happened and exit."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else WAIT_SECONDS
    # Not through Settings: a fault in another setting is the server's to report.
    print(await wait_for_redis(os.environ.get(variable("redis_url") or "", ""), seconds), flush=True)
    # A normal exit would wait for a thread in which the look-up of the host's name hangs.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
