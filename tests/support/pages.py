"""Parse the README and the pages of docs/: code, links, headings, and requests with their responses."""

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
    """A request shown on a page: the shell prompt, the command, and the response."""

    page: str
    prompt: str
    command: str
    shown: str

    @property
    def path(self) -> str:
        """The URL path of the request."""
        found = re.search(r"localhost:3000(\S+)", self.command)
        assert found is not None, self.command
        return found[1]


def name(page: Path) -> str:
    """Return the path of a page, relative to the project."""
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    """Return the text of a page."""
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str = "") -> list[str]:
    """Return the code blocks of a page, of one language if it is given."""
    return [code for found, code in FENCE.findall(read(page)) if language in ("", found)]


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks."""
    return FENCE.sub("", read(page))


def spans(page: Path) -> list[str]:
    """Return the inline code of a page."""
    return SPAN.findall(prose(page))


def commands(page: Path) -> list[str]:
    """Return the shell lines of a page, without comments, and its inline code."""
    lines = [line for shell in ("sh", "powershell") for code in blocks(page, shell) for line in code.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines] + spans(page)


def links(page: Path) -> list[str]:
    """Return the targets of the links and images of a page."""
    return LINK.findall(SPAN.sub("", prose(page)))


def anchors(page: Path) -> list[str]:
    """Return the anchors that GitHub derives from the headings of a page."""
    return [
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    ]


def sections(page: Path) -> dict[str, str]:
    """Return the sections of a page by their headings of the second level."""
    parts = re.split(r"^## (.*)$", read(page), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def requests(page: Path, section: str | None = None) -> Iterator[Request]:
    """Yield the requests that a page, or the text of one section, shows with their responses."""
    for language, code in FENCE.findall(read(page) if section is None else section):
        if language == "console":
            for prompt, command, shown in re.findall(r"^(\$|PS>) (.*\bcurl.*)\n([{\"].*)$", code, re.MULTILINE):
                yield Request(name(page), prompt, command, shown)


def runs_here(request: Request) -> bool:
    """Return whether `send` can run it: on Windows only PowerShell's commands; elsewhere all, translated for sh."""
    return sys.platform != "win32" or request.prompt == "PS>"


def send(request: Request, address: str) -> Any:
    """Run the command of a page against the server at `address`; return the JSON of its response."""
    command = request.command.replace("localhost:3000", address.removeprefix("http://"))
    if sys.platform == "win32":
        shell = ["powershell", "-NoProfile", "-Command", command]
    else:
        # PowerShell prints a bare string, which sh needs `echo` for.
        shell = ["sh", "-c", ("echo " if command.startswith("'") else "") + command.replace("curl.exe", "curl")]
    done = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)


def check_answer(request: Request, address: str) -> None:
    """Fail unless the server at `address` responds as the page shows."""
    found = send(request, address)
    shown = json.loads(request.shown)
    assert same(found, shown), f"{request.page} shows {request.shown}, the server answers {json.dumps(found)}"


def same(found: Any, shown: Any) -> bool:
    """Return whether two JSON values are equal, floats to within 1e-3, since processors differ in rounding.

    A text that is shown as an ellipsis may be any.
    """
    if shown == "…":
        return isinstance(found, str)
    if isinstance(shown, dict):
        return isinstance(found, dict) and found.keys() == shown.keys() and all(same(found[k], shown[k]) for k in shown)
    if isinstance(shown, list):
        return isinstance(found, list) and len(found) == len(shown) and all(map(same, found, shown))
    return bool(found == pytest.approx(shown, abs=1e-3)) if isinstance(shown, float) else found == shown


def tracked_folders() -> set[str]:
    """Return the top-level folders that git tracks."""
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.splitlines()
    return {path.partition("/")[0] for path in tracked if "/" in path}


def walk_files() -> dict[str, str]:
    """Return the Python files shown in add-a-model.md, by path."""
    return dict(re.findall(r"^`([a-z/]+\.py)`\n\n```python\n(.*?)^```$", read(WALK), re.DOTALL | re.MULTILINE))
