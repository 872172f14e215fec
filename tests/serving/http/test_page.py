"""The files of the page, tested without a browser: `make browser` tests what they do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from serving.http.page import FOLDER, MEDIA_TYPES, page_routes
from tests.support.edge import edge_around, public_guards

FILES = sorted(FOLDER.iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]
# What would take text for markup or for code, or what the page's policy stops.
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\(|[\"']style[\"']|srcdoc"
)


@pytest.fixture(scope="module")
def client() -> TestClient:
    """Return a client of the page's routes."""
    return TestClient(edge_around(Starlette(), public_guards(), routes=page_routes()))


@pytest.mark.parametrize("path", ["/", *(f"/static/{file.name}" for file in FILES)])
def test_a_file_is_confined_and_not_sent_twice(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].split(";")[0] in MEDIA_TYPES.values()
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    known = client.get(path, headers={"If-None-Match": response.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert client.post(path).status_code == 405


def test_what_is_no_file_of_the_page_is_not_there(client: TestClient) -> None:
    for path in ("/static/", "/static/page.py", "/static/../page.py", "/static/%2e%2e/page.py"):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_makes_no_markup_of_text(script: Path) -> None:
    assert not UNSAFE.findall(script.read_text(encoding="utf-8"))


def test_scripts_import_what_is_there_and_use_what_they_import() -> None:
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        for names, module in re.findall(r'^import \{ ([^}]+) \} from "\./([\w.]+)";$', text, re.MULTILINE):
            exported = re.findall(
                r"^export (?:async )?(?:function|const|class) (\w+)",
                (FOLDER / module).read_text(encoding="utf-8"),
                re.MULTILINE,
            )
            for name in names.split(", "):
                assert name in exported, f"{script.name}: {name}"
                assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{script.name}: {name}"


def test_all_of_it_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES) < 100_000
