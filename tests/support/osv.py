"""A stand-in for OSV: an HTTP server that serves the vulnerabilities that a test adds."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StandIn:
    """The vulnerabilities that the stand-in serves, and how it responds."""

    url: str = ""
    # Ids by ecosystem and package name, and records by id.
    vulnerabilities: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    page: int = 1000
    # Override the response: another status, another body, or none before `silent` is set.
    status: int = 200
    body: bytes | None = None
    silent: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def know(self, name: str, ecosystem: str, package: str, *fixed: str, **more: Any) -> None:
        """Add a vulnerability of a package, in all versions or in those before the `fixed` ones."""
        self.vulnerabilities.setdefault((ecosystem, package), []).append(name)
        events = [{"introduced": "0"}, *({"fixed": version} for version in fixed)]
        about = {
            "package": {"ecosystem": ecosystem, "name": package},
            "ranges": [{"type": "ECOSYSTEM", "events": events}],
        }
        self.records[name] = {"id": name, "modified": "2026-01-01T00:00:00Z", "affected": [about], **more}

    def answer(self, path: str, body: bytes) -> object:
        """Return the JSON that OSV responds with, or None for 404."""
        if path != "/v1/querybatch":
            return self.records.get(path.removeprefix("/v1/vulns/"))
        queries = json.loads(body)["queries"]
        self.asked += queries
        return {"results": [self.result(query) for query in queries]}

    def result(self, query: dict[str, Any]) -> dict[str, Any]:
        """Return the page of ids that matches a query."""
        ids = self.vulnerabilities.get((query["package"]["ecosystem"], query["package"]["name"]), [])
        start = int(query.get("page_token", "0"))
        end = start + self.page
        hits = [{"id": name, "modified": "2026-01-01T00:00:00Z"} for name in ids[start:end]]
        more = {"next_page_token": str(end)} if end < len(ids) else {}
        return ({"vulns": hits} if hits else {}) | more


@contextlib.contextmanager
def stand_in() -> Iterator[StandIn]:
    """Run a stand-in without any vulnerabilities."""
    known = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if known.silent:
                known.silent.wait(60)
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = known.answer(self.path, asked)
            body = json.dumps(found).encode() if known.body is None else known.body
            self.send_response(known.status if found is not None else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        known.url = f"http://127.0.0.1:{server.server_port}"
        yield known
        server.shutdown()
