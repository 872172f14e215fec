"""What the README shows: its requests give its answers, and its walk through a new model works."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT, newest, serving, train

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLES = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
REQUESTS = [
    (command, answer)
    for console in CONSOLES
    for command, answer in re.findall(r"^\$ (curl [^\n]*)\n([^$\n][^\n]*)\n", console, re.MULTILINE)
]


def same(found: Any, shown: Any) -> bool:
    """Whether two JSON values are equal, numbers to within what other processors may compute."""
    if isinstance(shown, dict):
        return isinstance(found, dict) and found.keys() == shown.keys() and all(same(found[k], shown[k]) for k in shown)
    if isinstance(shown, list):
        return isinstance(found, list) and len(found) == len(shown) and all(map(same, found, shown))
    return bool(found == pytest.approx(shown, abs=1e-3)) if isinstance(shown, float) else found == shown


def run(command: str, address: str) -> Any:
    """The JSON answer to a command of the README, sent to `address`."""
    assert "localhost:3000" in command
    command = command.replace("localhost:3000", address.removeprefix("http://"))
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


def test_there_is_a_request_for_every_model() -> None:
    paths = {re.search(r"localhost:3000(\S+)", command)[1] for command, _ in REQUESTS}  # type: ignore[index]
    assert paths == {f"/{name}/predict" for name in ("sentiment", "breast_cancer", "segmentation", "image", "iris")}


@pytest.mark.parametrize(("command", "shown"), [pair for pair in REQUESTS if "/iris/" not in pair[0]])
def test_a_request_gives_the_answer_shown(server: str, command: str, shown: str) -> None:
    found = run(command, server)
    assert same(found, json.loads(shown)), f"the README shows {shown}, the server answers {json.dumps(found)}"


@pytest.fixture(scope="module")
def with_iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A copy of the project with the files of the walk-through, and the address of its server."""
    project = tmp_path_factory.mktemp("project")
    for name in ("models", "serving", "training", "requirements"):
        shutil.copytree(ROOT / name, project / name)
    shutil.copy(ROOT / "service.py", project)
    files = re.findall(
        r"^`(models/iris\.py|training/iris\.py)`\n\n```python\n(.*?)```", README, re.DOTALL | re.MULTILINE
    )
    assert [path for path, _ in files] == ["models/iris.py", "training/iris.py"]
    for path, content in files:
        (project / path).write_text(content)
    home = tmp_path_factory.mktemp("home")
    done = train(home, "iris", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(home, {"MODELS": "iris"}, cwd=project) as address:
        yield project, address


def test_the_added_model_answers_as_shown(with_iris: tuple[Path, str]) -> None:
    _, address = with_iris
    ((command, shown),) = [pair for pair in REQUESTS if "/iris/" in pair[0]]
    found = run(command, address)
    assert same(found, json.loads(shown)), f"the README shows {shown}, the server answers {json.dumps(found)}"


def test_the_added_model_has_every_route_and_only_it_is_served(with_iris: tuple[Path, str]) -> None:
    _, address = with_iris
    flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    assert len(httpx.post(f"{address}/iris/infer", json={"items": [flower, flower]}).json()) == 2
    assert httpx.get(f"{address}/iris/info").json()["labels"] == ["setosa", "versicolor", "virginica"]
    assert httpx.post(f"{address}/iris/predict", json=flower | {"petal_width": 0}).status_code == 422
    assert "/iris/predict" in httpx.get(f"{address}/docs.json").json()["paths"]
    assert httpx.post(f"{address}/sentiment/predict", json={"text": ["a"]}).status_code == 404
    assert httpx.get(f"{address}/sentiment/info").status_code == 404


@pytest.mark.parametrize("name", ["breast_cancer", "image", "segmentation", "sentiment"])
def test_the_table_of_cards_shows_what_is_in_the_store(store: Path, name: str) -> None:
    row = re.search(rf"^\| `{name}` \| .*$", README, re.MULTILINE)
    assert row is not None
    card = yaml.safe_load((newest(store, name) / "model.yaml").read_text())["metadata"]["card"]
    assert f"| {card['licence']} |" in row[0]
    figures = re.findall(r"([a-zA-Z0-9 ]+?) (\d\.\d{3}) \((\d\.\d{3}) to (\d\.\d{3})\)", row[0])
    assert len(figures) >= 2
    for metric, *shown in figures:
        estimate = card["metrics"][metric.strip().replace(" ", "_")]
        # Other processors round otherwise, which may turn one answer of many.
        expected = [estimate[part] for part in ("value", "low", "high")]
        assert [float(figure) for figure in shown] == pytest.approx(expected, abs=2e-3), metric


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\((docs/[^)]+)\)", README)
    assert len(pictures) == 4
    assert all((ROOT / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_the_map_names_every_folder() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    ).stdout.splitlines()
    folders = {path.partition("/")[0] for path in tracked if "/" in path and not path.startswith(".")}
    named = set(re.findall(r"^\| `([a-z0-9]+)/` \|", README, re.MULTILINE))
    assert folders == named
