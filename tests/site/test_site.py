"""The site that `make docs` has built loads nothing from other hosts; a broken page fails the build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / os.environ.get("SITE", ".cache/site")
PAGES = sorted((ROOT / "docs").glob("*.md"))


class Loaded(HTMLParser):
    """Collects the addresses that a browser loads to show a page, not those of its links."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "link" and found.get("rel") != "canonical":
            self.addresses.append(found.get("href") or "")
        self.addresses += [found.get(name) or "" for name in ("src", "srcset", "data", "poster") if name in found]


def loaded(page: str) -> list[str]:
    """Return the addresses that a page loads."""
    parser = Loaded()
    parser.feed(page)
    return parser.addresses


def is_elsewhere(address: str) -> bool:
    """Return whether an address names a host."""
    return re.match(r"(https?:)?//", address) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_loads_nothing_from_another_host(page: Path) -> None:
    addresses = loaded((SITE / f"{page.stem}.html").read_text(encoding="utf-8"))
    assert any(address.endswith(".css") for address in addresses)
    assert [address for address in addresses if is_elsewhere(address)] == []


def test_the_styles_load_nothing_from_another_host() -> None:
    styles = list(SITE.rglob("*.css"))
    assert styles
    addresses = [
        address
        for style in styles
        for address in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", style.read_text(encoding="utf-8"))
    ]
    assert [address for address in addresses if is_elsewhere(address)] == []


def test_a_font_from_another_host_is_noticed() -> None:
    assert loaded('<link rel="stylesheet" href="https://fonts.example/css"><a href="https://example">x</a>') == [
        "https://fonts.example/css"
    ]


@pytest.mark.parametrize(
    ("file", "addition", "named"),
    [
        ("index.md", "[x](absent.md)", "absent.md"),
        ("index.md", "[x](deploy.md#absent)", "#absent"),
        ("index.md", "[x](#absent)", "#absent"),
        ("index.md", "![x](absent.png)", "absent.png"),
        ("forgotten.md", "# Forgotten", "forgotten.md"),
    ],
    ids=["link", "anchor", "own anchor", "picture", "page outside of the navigation"],
)
def test_what_is_broken_fails_the_build(tmp_path: Path, file: str, addition: str, named: str) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / file).open("a", encoding="utf-8") as page:
        page.write(f"\n{addition}\n")
    command = [sys.executable, "-m", "mkdocs", "build"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert named in done.stderr
