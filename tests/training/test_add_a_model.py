"""The walk through a new model in docs/add-a-model.md works as it stands there, and every way in finds the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pyarrow as pa
import pytest

from tests.support import ROOT
from tests.support.pages import PAGES, Request, check_answer, requests, runs_here, walk_files
from tests.support.processes import run_python, train
from tests.support.rows import written
from tests.support.servers import serving

REQUESTS = [
    request for page in PAGES for request in requests(page) if request.path.startswith("/iris/") and runs_here(request)
]
FLOWERS = [
    {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
    {"sepal_length": 6.1, "sepal_width": 2.8, "petal_length": 4.7, "petal_width": 1.2},
]
BY_THE_ENGINE = """
import asyncio, json, sys
import numpy as np
import bentoml
from models.iris import Iris
from models.model import check
from serving.bento.loading import load
from serving.inference import InferenceService, Registry
from serving.inference.context import own_context
from serving.inference.predictor import NoCache

predictor = load(bentoml.models.get("iris"), NoCache(), 1)
registry = Registry()
registry.add(predictor)
flowers = json.loads(sys.argv[1])
columns = {name: np.array([flower[name] for flower in flowers]) for name in flowers[0]}
items = Iris.items(check(columns, Iris.inputs))
outputs = asyncio.run(InferenceService(registry).infer("iris", items, own_context(60)))
registry.close()
print(json.dumps(predictor.model.columns(np.stack(outputs))["label"].tolist()))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Copy the project, add the files of the walk and make their model as the page says; return it and the store."""
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
    return project, home


@pytest.fixture(scope="module")
def with_iris(project: tuple[Path, Path]) -> Iterator[str]:
    """Start a server of the added model."""
    code, home = project
    with serving(home, {"TIFFIN_MODELS": "iris"}, cwd=code) as address:
        yield address


@pytest.fixture(scope="module")
def answers(with_iris: str) -> list[dict[str, Any]]:
    """Return what `predict` answers to each flower."""
    return [httpx.post(f"{with_iris}/iris/predict", json=flower).json() for flower in FLOWERS]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.page)
def test_the_added_model_answers_as_shown(with_iris: str, request_: Request) -> None:
    check_answer(request_, with_iris)


def test_predict_answers_a_row_of_the_output_columns(answers: list[dict[str, Any]]) -> None:
    assert [answer["label"] for answer in answers] == ["setosa", "versicolor"]
    for answer in answers:
        assert answer["score"] == max(answer["probabilities"])
        assert sum(answer["probabilities"]) == pytest.approx(1)


CSV = "\n".join([",".join(FLOWERS[0]), *(",".join(map(str, flower.values())) for flower in FLOWERS)])
FILES = {
    "CSV": CSV.encode(),
    "JSON": json.dumps({"data": FLOWERS}).encode(),
    "JSON lines": "\n".join(map(json.dumps, FLOWERS)).encode(),
    "Parquet": written(pa.Table.from_pylist(FLOWERS)),
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_file_gets_the_answers_of_predict(with_iris: str, answers: list[dict[str, Any]], content: bytes) -> None:
    columns = httpx.post(f"{with_iris}/iris/uploadfile", files={"file": ("flowers", content)}).json()
    assert columns["label"] == [answer["label"] for answer in answers]
    for name in ("score", "probabilities"):
        for given, answer in zip(columns[name], answers, strict=True):
            assert given == pytest.approx(answer[name], abs=1e-6)


def test_infer_answers_the_outputs_of_the_graph(with_iris: str, answers: list[dict[str, Any]]) -> None:
    outputs = httpx.post(f"{with_iris}/iris/infer", json={"items": FLOWERS}).json()
    for output, answer in zip(outputs, answers, strict=True):
        assert output == pytest.approx(answer["probabilities"], abs=1e-6)


def test_explain_tells_what_each_column_contributed(with_iris: str, answers: list[dict[str, Any]]) -> None:
    found = httpx.post(f"{with_iris}/iris/explain", json=FLOWERS[0], timeout=30).json()
    assert found["prediction"] == answers[0]
    assert [entry["name"] for entry in found["contributions"]] == list(FLOWERS[0])
    total = found["base"] + sum(entry["value"] for entry in found["contributions"])
    assert total == pytest.approx(answers[0]["score"], abs=1e-6)


def test_bentoml_s_client_has_its_methods(with_iris: str, answers: list[dict[str, Any]]) -> None:
    with bentoml.SyncHTTPClient(with_iris) as client:
        assert client.iris_predict(**FLOWERS[0]) == answers[0]


def test_its_columns_and_routes_are_told(with_iris: str) -> None:
    info = httpx.get(f"{with_iris}/iris/info").json()
    assert info["labels"] == ["setosa", "versicolor", "virginica"]
    described = {"name": "sepal_length", "datatype": "FP64", "shape": [-1], "optional": False, "used": True}
    assert info["inputs"][0] == described
    assert [(column["name"], column["datatype"], column["shape"]) for column in info["outputs"]] == [
        ("label", "BYTES", [-1]),
        ("score", "FP64", [-1]),
        ("probabilities", "FP64", [-1, -1]),
    ]
    paths = httpx.get(f"{with_iris}/docs.json").json()["paths"]
    assert {f"/iris/{name}" for name in ("predict", "uploadfile", "explain", "infer", "info")} <= set(paths)


@pytest.mark.parametrize("path", ["predict", "uploadfile"])
def test_what_its_schema_refuses_is_refused_by_name(with_iris: str, path: str) -> None:
    flower = FLOWERS[0] | {"petal_width": 0}
    body: Any = {"files": {"file": ("f", json.dumps({"data": [flower]}))}} if path == "uploadfile" else {"json": flower}
    response = httpx.post(f"{with_iris}/iris/{path}", **body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][-1] == "petal_width"


def test_the_engine_alone_answers_the_same(project: tuple[Path, Path], answers: list[dict[str, Any]]) -> None:
    code, home = project
    done = run_python(home, "-c", BY_THE_ENGINE, json.dumps(FLOWERS), cwd=code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [answer["label"] for answer in answers]


def test_only_it_is_served(with_iris: str) -> None:
    assert httpx.post(f"{with_iris}/sentiment/predict", json={"text": ["a"]}).status_code == 404
    assert httpx.get(f"{with_iris}/sentiment/info").status_code == 404
