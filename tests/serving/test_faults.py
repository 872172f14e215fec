"""A model's fault is a logged 500 on every kind of route, never blamed on the client."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pytest
from pydantic import BaseModel, Field, TypeAdapter
from starlette.testclient import TestClient

import models
from models.model import Array, Column, Columns, Infer, InvalidInputError, Model, route
from serving.bento.api import InferenceApi, api_methods
from serving.bento.infer import InferEndpoint
from serving.caching.memory import MemoryCache
from serving.caching.predictions import PredictionCache
from serving.explanations import ExplanationService
from serving.http.routes import accepted_bodies, model_routes
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService
from serving.telemetry import logs
from tests.support.batchers import save_sum
from tests.support.edge import edge_around, public_guards

TIMEOUT_SECONDS = 30.0
FAULTS = ["answer", "validation", "key", "value", "type", "nothing"]


class Ask(BaseModel):
    """A request that names the fault to cause."""

    fault: str


class AskByFile(BaseModel):
    """A request with a file that names the fault to cause."""

    file: Path


class Told(BaseModel):
    """A response that cannot be negative."""

    count: int = Field(ge=0)


def go_wrong(fault: str) -> Any:
    """Fail in the way that `fault` names, as a model may, or refuse the input."""
    if fault == "answer":
        return Told(count=-1)
    if fault == "validation":
        return TypeAdapter(int).validate_python("secret")
    if fault == "key":
        raise KeyError("secret")
    if fault == "value":
        raise ValueError("secret")
    if fault == "type":
        return len(None)  # type: ignore[arg-type]
    if fault == "input":
        raise InvalidInputError("unfit", ("fault",), "unfit")
    return None


class Faulty(Model[str]):
    """A model that fails as the request says."""

    input = str
    input_example = "fine"
    inputs = (Column("text", str, "fine"),)
    outputs = (Column("number", int, 1),)

    @route()
    async def predict(self, request: Ask, infer: Infer[str]) -> Told:
        """Fail as the request says."""
        told: Told = go_wrong(request.fault)
        return told

    @route(upload=True)
    async def file(self, request: AskByFile, infer: Infer[str]) -> Told:
        """Fail as the file says."""
        told: Told = go_wrong(request.file.read_text(encoding="utf-8"))
        return told

    @classmethod
    def items(cls, columns: Columns) -> list[str]:
        texts: list[str] = columns["text"].tolist()
        return texts

    def columns(self, outputs: Array) -> Columns:
        return {"number": outputs}

    def preprocess(self, item: str) -> dict[str, Array]:
        return {"x": np.array([1], dtype=np.int64) if item == "fine" else go_wrong(item)}


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Yield the stream that the server's log is written to."""
    level = logging.root.level
    monkeypatch.setattr(logging.root, "handlers", [])
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure(access_log=False)
    yield written
    logging.root.setLevel(level)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> Iterator[TestClient]:
    """Yield a client of the model's routes, behind the server's middlewares."""
    monkeypatch.setattr(models, "find", lambda name: Faulty)
    cache = PredictionCache(MemoryCache("test", 0, 0))
    predictor = Predictor(ModelId("faulty", "1"), Faulty(tmp_path), save_sum(tmp_path), cache, threads=1)
    registry = Registry()
    registry.add(predictor)

    methods = api_methods(["faulty"], TIMEOUT_SECONDS)
    routes = type("Routes", (InferenceApi,), {"inference": InferenceService(registry), **methods})
    service = bentoml.service(routes, name="faulty", metrics={"enabled": False})
    whole = service.to_asgi()
    guards = public_guards()
    accepted = accepted_bodies(["faulty"], 2**20, 2**20)
    app = edge_around(
        whole,
        guards,
        routes=model_routes(
            ["faulty"],
            registry,
            accepted,
            guards,
            lambda name: InferEndpoint(whole, name, accepted[f"/{name}/infer"], registry),
            TIMEOUT_SECONDS,
            ExplanationService(),
        ),
        timeout_seconds=TIMEOUT_SECONDS,
        body_timeout_seconds=TIMEOUT_SECONDS,
    )
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client
    predictor.close()


def ask(client: TestClient, way: str, fault: str) -> Any:
    """Send a request to the route `way`; return the response."""
    if way == "file":
        return client.post("/faulty/file", files={"file": ("fault.txt", fault.encode())})
    body = {"items": [fault]} if way == "infer" else {"fault": fault}
    return client.post(f"/faulty/{way}", json=body)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["predict", "file", "infer"])
def test_a_fault_of_the_model_is_500_and_logged(client: TestClient, log: io.StringIO, way: str, fault: str) -> None:
    response = ask(client, way, fault)
    assert response.status_code == 500
    assert response.json()["detail"] == []
    assert "secret" not in response.text
    assert "Traceback" in log.getvalue()
    assert response.headers["x-request-id"] in log.getvalue()


@pytest.mark.parametrize("way", ["predict", "file", "infer"])
def test_input_that_the_model_refuses_is_422_and_not_logged(client: TestClient, log: io.StringIO, way: str) -> None:
    response = ask(client, way, "input")
    assert response.status_code == 422
    assert [(problem["msg"], problem["type"]) for problem in response.json()["detail"]] == [("unfit", "unfit")]
    assert "Traceback" not in log.getvalue()


@pytest.mark.parametrize(
    ("path", "body"), [("/faulty/predict", {"fault": 1}), ("/faulty/infer", {"items": [1]}), ("/faulty/infer", {})]
)
def test_a_request_that_does_not_fit_the_schema_is_422_and_not_logged(
    client: TestClient, log: io.StringIO, path: str, body: dict[str, Any]
) -> None:
    assert client.post(path, json=body).status_code == 422
    assert "Traceback" not in log.getvalue()
