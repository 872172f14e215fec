"""The README and the pages of docs/ as tests read them: code, links, headings, requests with their answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
WALK = ROOT / "docs" / "add-a-model.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Request:
    """A command that a page shows, the shell that it is for, and the answer shown."""

    page: str
    prompt: str
    command: str
    shown: str

    @property
    def path(self) -> str:
        """The path that it asks for."""
        found = re.search(r"localhost:3000(\S+)", self.command)
        assert found is not None, self.command
        return found[1]


def name(page: Path) -> str:
    """A page's path in the project."""
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str = "") -> list[str]:
    """Blocks of code on a page; of one language, or all."""
    return [code for found, code in FENCE.findall(read(page)) if language in ("", found)]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", read(page))


def spans(page: Path) -> list[str]:
    """Code within the sentences of a page."""
    return SPAN.findall(prose(page))


def commands(page: Path) -> list[str]:
    """Lines of shell on a page, without their comments, and code within its sentences."""
    lines = [line for shell in ("sh", "powershell") for code in blocks(page, shell) for line in code.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines] + spans(page)


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page."""
    return LINK.findall(SPAN.sub("", prose(page)))


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    return [
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    ]


def requests(page: Path) -> Iterator[Request]:
    """The requests of a page that are shown with their answers."""
    for code in blocks(page, "console"):
        for prompt, command, shown in re.findall(r"^(\$|PS>) (.*curl.*)\n(\{.*)$", code, re.MULTILINE):
            yield Request(name(page), prompt, command, shown)


def runs_here(request: Request) -> bool:
    """Whether this system can run it: PowerShell's on Windows; elsewhere all, since `send` translates these few."""
    return sys.platform != "win32" or request.prompt == "PS>"


def send(request: Request, address: str) -> Any:
    """The answer of the server at `address` to the command of a page, JSON."""
    command = request.command.replace("localhost:3000", address.removeprefix("http://"))
    if sys.platform == "win32":
        shell = ["powershell", "-NoProfile", "-Command", command]
    else:
        # A string before a pipe is PowerShell's echo.
        shell = ["sh", "-c", ("echo " if command.startswith("'") else "") + command.replace("curl.exe", "curl")]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def check_answer(request: Request, address: str) -> None:
    """Fail unless the server at `address` gives the answer that the page shows."""
    found = send(request, address)
    shown = json.loads(request.shown)
    assert same(found, shown), f"{request.page} shows {request.shown}, the server answers {json.dumps(found)}"


def same(found: Any, shown: Any) -> bool:
    """Whether two JSON values are equal, numbers to within what other processors may compute."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and found.keys() == shown.keys() and all(same(found[k], shown[k]) for k in shown)
    if isinstance(shown, list):
        return isinstance(found, list) and len(found) == len(shown) and all(map(same, found, shown))
    return bool(found == pytest.approx(shown, abs=1e-3)) if isinstance(shown, float) else found == shown


def tracked_folders() -> set[str]:
    """Folders at the top of the project, without those that a run makes."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.splitlines()
    return {path.partition("/")[0] for path in tracked if "/" in path}


def walk_files() -> dict[str, str]:
    """The files of the walk through a new model, by their paths."""
    return dict(re.findall(r"^`([a-z/]+\.py)`\n\n```python\n(.*?)^```$", read(WALK), re.DOTALL | re.MULTILINE))
