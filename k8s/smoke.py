"""Send every route of a server its own example: `python3 k8s/smoke.py ADDRESS`; exit with 1 if an answer is not 200.

Background jobs are submitted, asked for and deleted; whether there are workers, it does not wait to see.

Needs only Python, since it runs wherever deployments do. `API_KEY` is sent if it is set; authorities in CA_FILE are
trusted beside the system's.
"""

from __future__ import annotations

import functools
import io
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "ship.jpg"
TIMEOUT_SECONDS = 30
# What the paths of a model's background jobs hold, and how that of their submission ends.
TASKS, SUBMIT = "/score/", "/score/submit"


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Return the context that verifies servers; exit with a message if CA_FILE holds no certificates."""
    context = ssl.create_default_context()
    if file := os.environ.get("CA_FILE"):
        try:
            context.load_verify_locations(file)
        except OSError as error:
            sys.exit(f"CA_FILE={file} is no file of certificates: {error.strerror or error}")
    return context


def ask(
    url: str, body: bytes | None = None, media_type: str = "application/json", method: str | None = None
) -> tuple[int, bytes]:
    """Send a GET, or a POST if there is a body, or by `method`; return the status and body of the answer."""
    headers = {"Content-Type": media_type, "Cache-Control": "no-cache"}
    if key := os.environ.get("API_KEY"):
        headers["X-API-Key"] = key
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
    try:
        context = tls_context() if url.startswith("https:") else None
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=context) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def form(field: str, file: bytes) -> tuple[bytes, str]:
    """Return the body and media type of a form with one file."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{field}"\r\n\r\n'
    return b"".join(
        [head.encode(), file, f"\r\n--{boundary}--\r\n".encode()]
    ), f"multipart/form-data; boundary={boundary}"


def archive() -> bytes:
    """Return a ZIP archive with the picture."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(PICTURE, PICTURE.name)
    return file.getvalue()


def requests(document: dict[str, Any]) -> Iterator[tuple[str, bytes | None, str]]:
    """Yield path, body and media type for each route of an OpenAPI document; forms get an example or a picture.

    Raises OSError if a route that needs JSON has no example.
    """
    posts = {path: entry["post"] for path, entry in document["paths"].items() if "post" in entry}
    bodies = {path: post["requestBody"] for path, post in posts.items() if "requestBody" in post}
    for path in document["paths"]:
        if "{" in path:  # that of one of several models or versions
            continue
        if TASKS in path and not path.endswith(SUBMIT):  # `follow` asks some of these
            continue
        if path not in bodies:
            yield path, None, "application/json"
        elif (content := bodies[path]["content"].get("application/json")) is not None:
            if "example" in content["schema"]:
                yield path, json.dumps(content["schema"]["example"]).encode(), "application/json"
            elif bodies[path].get("required"):
                raise OSError(f"the OpenAPI document has no example of a request to {path}, give its schema one")
            else:
                yield path, b"", "application/json"
        else:
            schema = bodies[path]["content"]["multipart/form-data"]["schema"]
            (field,) = schema["required"]
            examples = schema["properties"][field].get("examples")
            picture = archive() if path.endswith(("/uploadfile", SUBMIT)) else PICTURE.read_bytes()
            yield path, *form(field, examples[0].encode() if examples else picture)


def follow(url: str, submitted: bytes) -> tuple[int, bytes]:
    """Ask for the state of a job submitted at `url`, and delete it; return the first answer that fails, or the last."""
    tasks, query = url.removesuffix(SUBMIT), f"?task_id={json.loads(submitted)['task_id']}"
    status, content = ask(f"{tasks}{TASKS}status{query}")
    deleted = ask(f"{tasks}{TASKS}tasks{query}", method="DELETE")
    return deleted if status == 200 else (status, content)


def main(address: str) -> int:
    """Send a request to every route, print the statuses, and return the exit code."""
    failed = 0
    try:
        _, document = ask(f"{address}/docs.json")
        for path, body, media_type in requests(json.loads(document)):
            status, content = ask(address + path, body, media_type)
            if status == 202:
                status, content = follow(address + path, content)
            print(f"{status} {path}" + ("" if status == 200 else f" {content.decode(errors='replace')[:500]}"))
            failed += status != 200
    except OSError as error:
        print(f"{address} does not answer: {error}", file=sys.stderr)
        if isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError):
            print("give the certificate of an authority of your own by CA_FILE=FILE", file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/")))
