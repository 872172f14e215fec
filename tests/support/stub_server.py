"""A stub server with the model sentiment, whose predictions have a given body, status and delay."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loadtest.processes import free_port

EXAMPLE = {"text": ["dull"]}
TENSORS = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": EXAMPLE["text"]}]}


def post(example: object) -> dict[str, Any]:
    """Return what an OpenAPI document has of a route, with an example of its requests."""
    return {
        "post": {"requestBody": {"content": {"application/json": {"example": example, "schema": {"example": example}}}}}
    }


GET_RESPONSES = {
    "/readyz": {"status": "ready"},
    "/docs.json": {"paths": {"/sentiment/predict": post(EXAMPLE), "/v2/models/sentiment/infer": post(TENSORS)}},
    "/sentiment/info": {"labels": ["NEGATIVE", "POSITIVE"]},
}


@contextlib.contextmanager
def stub(
    answer: object,
    status: int = 200,
    stall_seconds: float = 0.0,
    seconds: float = 0.0,
    together: int = 1_000,
    certificate: Path | None = None,
) -> Iterator[str]:
    """Run a stub server; yield its address.

    Its first prediction holds up all others for `stall_seconds`. Each prediction takes `seconds`; with more than
    `together` at a time, it answers 503. With a `certificate`, a PEM file that also holds the key, it serves HTTPS.
    """
    lock = threading.Lock()
    places = threading.Semaphore(together)
    stalls = iter([stall_seconds])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def say(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.say(200, GET_RESPONSES[self.path])

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                time.sleep(next(stalls, 0.0))
            if not places.acquire(blocking=False):
                return self.say(503, {"error": "overloaded", "detail": []})
            try:
                time.sleep(seconds)
            finally:
                places.release()
            return self.say(status, answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
