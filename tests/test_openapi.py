"""What /docs.json says of requests and answers holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


def test_the_server_does_what_its_document_says(client: httpx.Client, tmp_path: Path) -> None:
    # Each field in turn at its bounds and with every kind of fault: what fits the document must be accepted, what does
    # not must be refused, and each answer must have a status, media type, headers and body that the document gives it.
    # As a program: its plugin for pytest fails with pytest 9.2.
    schemathesis = [sys.executable, "-X", "utf8", "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)]
    document = client.get("/docs.json")
    done = subprocess.run(
        [*schemathesis, "run", str(document.url)], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    operations = sum(len(methods) for methods in document.json()["paths"].values())
    assert f"Tested: {operations}\n" in done.stdout
