"""The README is short, shows a request for every model, and lists every folder."""

from __future__ import annotations

import re

from tests.support import ROOT
from tests.support.pages import README, blocks, links, prose, read, requests, tracked_folders, walk_files


def test_it_takes_two_minutes() -> None:
    assert len(read(README).splitlines()) <= 150
    assert [line for line in prose(README).splitlines() if len(line) > 120 and not line.startswith("|")] == []


def test_there_is_a_request_for_every_model() -> None:
    names = ("sentiment", "breast_cancer", "segmentation", "image", "iris")
    assert {request.path for request in requests(README)} == {f"/{name}/predict" for name in names}


def test_it_shows_a_picture() -> None:
    pictures = [target for target in links(README) if target.endswith(".png")]
    assert pictures
    assert all((ROOT / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_the_model_that_it_adds_is_that_of_the_walk() -> None:
    (excerpt,) = blocks(README, "python")
    assert excerpt in walk_files()["models/iris.py"]


def test_the_map_names_every_folder() -> None:
    named = set(re.findall(r"^\| `([a-z0-9]+)/` \|", read(README), re.MULTILINE))
    assert {folder for folder in tracked_folders() if not folder.startswith(".")} == named
