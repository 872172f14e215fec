"""Check the health of this container's server, for images without curl: `python -m serving.healthcheck [path]`.

Exits with 0 when the path (`/livez`) is answered with 200, else with 1 and the reason.
"""

from __future__ import annotations

import http.client
import os
import sys

# Below the caller's time-out, so that the reason is still printed.
TIMEOUT_SECONDS = 3


def fault(port: int, path: str) -> str | None:
    """Return what is wrong with the server at a port of the loopback interface; None when nothing is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"port {port} does not answer {path}: {error!r}"
    finally:
        connection.close()
    return None if status == http.HTTPStatus.OK else f"port {port} answers {path} with {status}"


if __name__ == "__main__":
    sys.exit(fault(int(os.environ.get("PORT", "3000")), sys.argv[1] if len(sys.argv) > 1 else "/livez"))
