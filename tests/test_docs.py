"""The README and the pages of docs/ are right: responses, cards, links, commands, paths."""

from __future__ import annotations

import re
import shlex
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from loadtest.profiles import PROFILES
from tests.support import ROOT
from tests.support.pages import (
    DOCS,
    PAGES,
    README,
    Request,
    anchors,
    check_answer,
    commands,
    links,
    name,
    read,
    requests,
    runs_here,
    spans,
    tracked_folders,
    walk_files,
)
from tests.support.stores import newest

MODELS = ["breast_cancer", "image", "segmentation", "sentiment"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z0-9]+):", MAKEFILE, re.MULTILINE))
# Models that the walkthrough adds are tried in tests/training/test_add_a_model.py.
REQUESTS = [
    request
    for page in PAGES
    for request in requests(page)
    if request.path.split("/")[1] in (*MODELS, "v2") and runs_here(request)
]


def named_targets(command: str) -> list[str]:
    """Return the make targets in a line of shell."""
    if not re.search(r"(?:^|\s)make [a-z]", command):
        return []
    words = shlex.split(re.sub(r"\$\([^)]*\)", "", command))
    rest = takewhile(lambda word: word not in ("&&", "|"), words[words.index("make") + 1 :])
    return [word for word in rest if "=" not in word and not word.startswith("-")]


def is_module(module: str) -> bool:
    """Return whether `python -m` finds a module: of the project, of Python, or of a pinned package."""
    path = ROOT / module.replace(".", "/")
    if (ROOT / module.partition(".")[0]).is_dir():
        return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
    pins = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "requirements").glob("*.txt"))
    return module in {*sys.stdlib_module_names, "pip"} or f"\n{module}==" in pins


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"{request.page}{request.path}")
def test_a_request_gives_the_answer_shown(server: str, request_: Request) -> None:
    check_answer(request_, server)


def test_windows_has_a_request_for_every_model() -> None:
    paths = {request.path for request in requests(ROOT / "docs" / "windows.md")}
    assert paths == {f"/{model}/predict" for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_the_table_of_cards_shows_what_is_in_the_store(store: Path, model: str) -> None:
    row = re.search(rf"^\| `{model}` \| .*$", read(ROOT / "docs" / "models.md"), re.MULTILINE)
    assert row is not None
    card = yaml.safe_load((newest(store, model) / "model.yaml").read_text(encoding="utf-8"))["metadata"]["card"]
    assert f"| {card['licence']} |" in row[0]
    figures = re.findall(r"([a-zA-Z0-9 ]+?) (\d\.\d{3}) \((\d\.\d{3}) to (\d\.\d{3})\)", row[0])
    assert len(figures) >= 2
    for metric, *shown in figures:
        estimate = card["metrics"][metric.strip().replace(" ", "_")]
        # Other processors round differently, which may change one prediction among many.
        expected = [estimate[part] for part in ("value", "low", "high")]
        assert [float(figure) for figure in shown] == pytest.approx(expected, abs=2e-3), metric


@pytest.mark.parametrize("page", PAGES, ids=name)
class TestPage:
    """What holds for every page."""

    def test_its_links_lead_somewhere(self, page: Path) -> None:
        for target in links(page):
            if ":" in target:
                assert re.fullmatch(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(/[^\s]*)?", target), target
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), target

    def test_its_targets_of_make_are_there(self, page: Path) -> None:
        targets = {target for command in commands(page) for target in named_targets(command)}
        assert targets <= TARGETS

    def test_its_modules_are_there(self, page: Path) -> None:
        modules = re.findall(r"python -m ([a-z0-9_.]+)", "\n".join(commands(page)))
        assert [module for module in modules if not is_module(module)] == []

    def test_its_load_profiles_are_there(self, page: Path) -> None:
        named = re.findall(r"make loadtest PROFILE=(\w+)", "\n".join(commands(page)))
        assert [profile for profile in named if profile not in PROFILES] == []

    def test_its_paths_are_there(self, page: Path) -> None:
        folders = tracked_folders()
        paths = {span for span in spans(page) if re.fullmatch(r"[\w.-]+(/[a-z0-9_.-]+)+/?", span)}
        named = {path for path in paths if path.partition("/")[0] in folders} - set(walk_files())
        named |= {path.replace("\\", "/") for path in re.findall(r" -r (\S+)", "\n".join(commands(page)))}
        assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, found = set(), [README]
    while found:
        page = found.pop()
        reached.add(page)
        targets = [(page.parent / target.partition("#")[0]).resolve() for target in links(page) if ":" not in target]
        found += [target for target in targets if target.suffix == ".md" and target not in reached]
    assert set(DOCS) <= reached


@pytest.mark.parametrize(
    ("command", "targets"),
    [
        ("make", []),
        ("TIFFIN_MODELS=iris make serve", ["serve"]),
        ("make image push deploy OVERLAY=production", ["image", "push", "deploy"]),
        ("make loadtest OPTIONS='--p99 0.2 --rate 200'", ["loadtest"]),
        ("make image && docker compose up", ["image"]),
        ("make smoke ADDRESS=http://$(minikube ip):30300", ["smoke"]),
    ],
)
def test_targets_are_found_in_a_command(command: str, targets: list[str]) -> None:
    assert named_targets(command) == targets


def test_a_module_that_is_not_there_is_noticed() -> None:
    assert is_module("benchmarks.sweep")
    assert not is_module("benchmarks.absent")
    assert not is_module("absent")
