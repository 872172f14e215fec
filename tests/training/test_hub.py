"""Models from the hub, within reach and out of reach."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import transformers

from tests.support.own_models import (
    made,
)
from tests.support.processes import train
from training import hub
from training.artifact import TrainingError


def test_without_a_hub_one_line_says_so_and_the_store_stays_as_it_was(
    distilbert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing answers
    made(tmp_path, "sentiment", "--from-hub", str(distilbert))
    before = sorted(tmp_path.glob("models/**/*"))
    done = train(tmp_path, "sentiment", "--from-hub", "somebody/some-model", "--revision", "abc")
    assert done.returncode == 1
    assert re.fullmatch(r"sentiment: no hub within reach to load somebody/some-model from; .*\n", done.stderr)
    assert sorted(tmp_path.glob("models/**/*")) == before


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def hub_address(distilbert: Path) -> Iterator[str]:
    """Yield the address of a hub with one model, somebody/small, at one commit, which is also its revision v1."""
    files = {path.name: path.read_bytes() for path in distilbert.iterdir()}
    listing = [{"type": "file", "path": name, "size": len(file), "oid": "0" * 40} for name, file in files.items()]
    siblings = [{"rfilename": name} for name in files]
    api = "/api/models/somebody/small"
    responses = {
        **{
            f"{api}{path}": {"id": "somebody/small", "sha": COMMIT, "siblings": siblings}
            for path in ("", "/revision/v1")
        },
        f"{api}/tree/{COMMIT}": listing,
    }

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            file = files.get(path.removeprefix(f"/somebody/small/resolve/{COMMIT}/"))
            if file is not None:
                self.respond(200, file, {"ETag": f'"{len(file)}"', "X-Repo-Commit": COMMIT})
            elif path in responses:
                self.respond(200, json.dumps(responses[path]).encode(), {"Content-Type": "application/json"})
            else:
                kind = "RevisionNotFound" if path.startswith(api) else "RepoNotFound"
                self.respond(404, b"{}", {"X-Error-Code": kind})

        def do_HEAD(self) -> None:
            self.do_GET()

        def respond(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_model_is_loaded_from_the_hub_at_its_revision_and_then_without_the_hub(
    hub_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub_address)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    options = ("sentiment", "--from-hub", "somebody/small", "--revision", "v1")
    found = made(tmp_path / "first", *options)
    assert found["origin"] == {"from": "somebody/small", "revision": COMMIT}
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    again = made(tmp_path / "second", *options[:3], "--revision", COMMIT)
    assert again["origin"] == found["origin"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("somebody/small", "--revision", "v9"), "somebody/small has no revision v9 on the hub"),
        (("nobody/none",), "the hub has no model nobody/none; a private one needs HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_have_is_an_error(
    hub_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub_address)
    done = train(tmp_path, "sentiment", "--from-hub", *options)
    assert done.returncode == 1
    assert done.stderr == f"sentiment: {message}\n"


def test_a_model_without_a_trained_head_is_refused(distilbert: Path, tmp_path: Path) -> None:
    transformers.AutoModel.from_pretrained(distilbert).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match=r"no trained weights .*classifier"):
        hub.load(transformers.AutoModelForSequenceClassification, hub.fetch(str(tmp_path), None))


@pytest.mark.parametrize(
    ("identifier", "message"), [("a/b/c", "neither a folder nor a name"), ("./nothing", "neither a folder nor a name")]
)
def test_what_is_no_name_on_the_hub_is_refused(identifier: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        hub.fetch(identifier, None)


def test_a_folder_without_a_model_and_a_folder_with_a_revision_are_refused(distilbert: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no config\.json"):
        hub.fetch(str(tmp_path), None)
    with pytest.raises(TrainingError, match="--revision"):
        hub.fetch(str(distilbert), "main")
