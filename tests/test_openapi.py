"""The server does what /docs.json says about requests and responses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def test_the_server_does_what_its_document_says(client: httpx.Client, tmp_path: Path) -> None:
    # Schemathesis tries each field at its bounds and with every kind of violation. What conforms must be accepted, what
    # does not must be rejected, and status, media type, headers and body of each response must be documented.
    # It runs as a command since its pytest plugin fails with pytest 9.2.
    schemathesis = [sys.executable, "-X", "utf8", "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)]
    document = client.get("/docs.json")
    done = subprocess.run(
        [*schemathesis, "run", str(document.url)], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    operations = sum(len(methods) for methods in document.json()["paths"].values())
    assert f"Tested: {operations}\n" in done.stdout


def test_every_body_is_required_and_files_are_strings(client: httpx.Client) -> None:
    document = client.get("/docs.json")
    # Only from this version on may null be a type.
    assert document.json()["openapi"] == "3.1.0"
    bodies = [methods["post"]["requestBody"] for methods in document.json()["paths"].values() if "post" in methods]
    assert [body for body in bodies if not body["required"]] == []
    assert '"type": "file"' not in document.text
