"""The server does what /docs.json says about requests and responses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx

import models
from serving.http.aliases import aliases_of
from serving.setting_values import OWN_PATHS

REQUIRED = {"requestBody": {"required": True}}
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


def test_every_body_but_those_to_the_repository_is_required_and_files_are_strings(client: httpx.Client) -> None:
    document = client.get("/docs.json")
    # Only from this version on may null be a type.
    assert document.json()["openapi"] == "3.1.0"
    paths = document.json()["paths"]
    optional = [path for path, methods in paths.items() if not methods.get("post", REQUIRED)["requestBody"]["required"]]
    assert all(path.startswith("/v2/repository/") for path in optional)
    assert '"type": "file"' not in document.text


def test_no_prefix_may_begin_as_a_path_does(client: httpx.Client) -> None:
    first = {path.split("/")[1] for path in client.get("/docs.json").json()["paths"]}
    assert first - set(models.names()) <= OWN_PATHS
    aliases = aliases_of(models.names(), "segmentation")
    assert {path.split("/")[1] for path in aliases} <= OWN_PATHS


def test_the_examples_of_tensors_are_answered(client: httpx.Client) -> None:
    paths = client.get("/docs.json").json()["paths"]
    examples = {
        path: methods["post"]["requestBody"]["content"]["application/json"]["schema"]["example"]
        for path, methods in paths.items()
        if path.startswith("/v2/models/") and path.endswith("/infer")
    }
    assert len(examples) == len(models.names())
    for path, example in examples.items():
        response = client.post(path, json=example)
        assert response.status_code == 200, response.text
        assert all(output["shape"][0] == 1 for output in response.json()["outputs"])
