"""The page on which people try the models: files that are read once, and the headers that confine what they may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "static"
MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
# The page runs its own files and speaks to its own server, nothing else. Pictures that a user chooses are blobs.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[Route]:
    """Return the public GET routes of the page and its files; metrics count the files as `other`."""
    files = [Route(f"/static/{file.name}", file_endpoint(file), name="other") for file in sorted(FOLDER.iterdir())]
    return [Route("/", file_endpoint(FOLDER / "index.html"), name="/"), *files]


def file_endpoint(file: Path) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint of a file; a browser that has it already is told so."""
    content = file.read_bytes()
    headers = {**HEADERS, "ETag": f'"{blake2b(content, digest_size=16).hexdigest()}"'}
    media_type = MEDIA_TYPES[file.suffix]

    async def endpoint(request: Request) -> Response:
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if headers["ETag"] in known or "*" in known:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return endpoint
