"""The walk-through of docs/add-a-model.md works as written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import httpx
import pytest

from tests.support import ROOT
from tests.support.pages import PAGES, Request, check_answer, requests, runs_here, walk_files
from tests.support.processes import train
from tests.support.servers import serving

REQUESTS = [
    request for page in PAGES for request in requests(page) if request.path.startswith("/iris/") and runs_here(request)
]


@pytest.fixture(scope="module")
def with_iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a server in a copy of the project with the page's files, its model made as the page says."""
    project = tmp_path_factory.mktemp("project")
    for name in ("models", "serving", "training", "requirements"):
        shutil.copytree(ROOT / name, project / name)
    shutil.copy(ROOT / "service.py", project)
    files = walk_files()
    assert list(files) == ["models/iris.py", "training/iris.py"]
    for path, content in files.items():
        (project / path).write_text(content, encoding="utf-8")
    home = tmp_path_factory.mktemp("home")
    done = train(home, "iris", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    with serving(home, {"TIFFIN_MODELS": "iris"}, cwd=project) as address:
        yield address


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.page)
def test_the_added_model_answers_as_shown(with_iris: str, request_: Request) -> None:
    check_answer(request_, with_iris)


def test_the_added_model_has_every_route_and_only_it_is_served(with_iris: str) -> None:
    flower = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
    assert len(httpx.post(f"{with_iris}/iris/infer", json={"items": [flower, flower]}).json()) == 2
    assert httpx.get(f"{with_iris}/iris/info").json()["labels"] == ["setosa", "versicolor", "virginica"]
    assert httpx.post(f"{with_iris}/iris/predict", json=flower | {"petal_width": 0}).status_code == 422
    assert "/iris/predict" in httpx.get(f"{with_iris}/docs.json").json()["paths"]
    assert httpx.post(f"{with_iris}/sentiment/predict", json={"text": ["a"]}).status_code == 404
    assert httpx.get(f"{with_iris}/sentiment/info").status_code == 404
