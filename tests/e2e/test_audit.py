"""The look for vulnerabilities, with a real HTTP server in place of the service that knows them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from loadtest.processes import free_port
from tests.conftest import ROOT

FOUND = {"vulns": [{"id": "PYSEC-0-1", "aliases": ["CVE-0-1"], "affected": [], "modified": "2026-01-01T00:00:00Z"}]}


@pytest.fixture
def service() -> Iterator[dict[str, Any]]:
    """A service at `url` that answers with `status` and knows a vulnerability of the package `name`."""
    said: dict[str, Any] = {"name": "", "status": 200}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = json.dumps(FOUND if query["package"]["name"] == said["name"] else {}).encode()
            self.send_response(said["status"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said["url"] = f"http://127.0.0.1:{server.server_port}"
        yield said
        server.shutdown()


def audit(url: str, requirements: Path | str = "requirements/serving.txt") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "container.audit", str(requirements)],
        cwd=ROOT,
        env={**os.environ, "OSV_URL": url},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_requirements_without_a_known_vulnerability_pass(service: dict[str, Any]) -> None:
    done = audit(service["url"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("0 known vulnerabilities in ")


def test_a_known_vulnerability_fails_and_is_named(service: dict[str, Any]) -> None:
    service["name"] = "pillow"
    done = audit(service["url"])
    assert done.returncode == 1
    assert re.search(r"^pillow \S+: PYSEC-0-1, CVE-0-1, fixed in no version$", done.stdout, re.MULTILINE)


def test_a_service_out_of_reach_is_told_in_one_line_and_passes() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = audit(url)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{url} is out of reach: no vulnerability was looked for\n"


@pytest.mark.parametrize("status", [403, 503])
def test_a_service_that_refuses_is_out_of_reach(service: dict[str, Any], status: int) -> None:
    service["status"] = status
    done = audit(service["url"])
    assert done.returncode == 0
    assert done.stderr == f"{service['url']} is out of reach: no vulnerability was looked for\n"


def test_requirements_that_are_not_pinned_fail(service: dict[str, Any], tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("pillow\n")
    done = audit(service["url"], requirements)
    assert done.returncode == 1
    assert "not pinned" in done.stderr
