"""The prefix that all paths have behind a proxy."""

from __future__ import annotations

from collections.abc import Awaitable

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """ASGI middleware that sets `root_path`, with which every `path` then begins, as the ASGI specification has it.

    A proxy may have stripped it, or not.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run the app inside."""
        path: str = scope["path"]
        scope["root_path"] = self.root_path
        if path != self.root_path and not path.startswith(f"{self.root_path}/"):
            scope["path"] = self.root_path + path
        return self.app(scope, receive, send)
