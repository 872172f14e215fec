"""The version of a model that answers, and response cache entries kept apart by version."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from serving.http.endpoints import Accepted, JsonEndpoint
from serving.http.exchange import Exchange
from serving.inference.registry import ModelId, Registry
from serving.telemetry import metrics
from tests.support.edge import App, edge_around, public_guards

PATH = "/sum/predict"


class Loaded:
    """A predictor with nothing but its id, which is all that the registry reads."""

    def __init__(self, version: str) -> None:
        self.id = ModelId("sum", version)


def load(registry: Registry, version: str) -> None:
    """Register a version, which becomes the default."""
    predictor: Any = Loaded(version)
    registry.add(predictor)


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    for version in ("1", "2"):
        load(made, version)
    return made


@pytest.fixture
def client(registry: Registry) -> TestClient:
    async def answer(_: bytes, exchange: Exchange) -> Response:
        return PlainTextResponse(exchange.version)

    accepted = Accepted(100, cacheable=True)
    guards = public_guards(max_bytes=2**20)
    routes = [
        guards.post(path, JsonEndpoint(accepted, answer), accepted, cached_as=PATH, model=(registry, "sum"))
        for path in (PATH, "/sum/versions/{version}/predict")
    ]
    return TestClient(edge_around(App(), guards, routes=routes, timeout_seconds=60, body_timeout_seconds=60))


def test_an_answer_names_the_version_also_when_it_is_known(client: TestClient) -> None:
    for outcome in ("miss", "hit"):
        response = client.post(PATH, content=b"{}")
        assert (response.text, response.headers["x-model-version"], response.headers["x-cache"]) == ("2", "2", outcome)


def test_a_version_answers_under_its_own_path(client: TestClient) -> None:
    client.post(PATH, content=b"{}")
    for outcome in ("miss", "hit"):
        response = client.post("/sum/versions/1/predict", content=b"{}")
        assert (response.text, response.headers["x-model-version"], response.headers["x-cache"]) == ("1", "1", outcome)


def test_the_default_is_the_same_by_either_path(client: TestClient) -> None:
    client.post(PATH, content=b"{}")
    response = client.post("/sum/versions/2/predict", content=b"{}")
    assert (response.text, response.headers["x-cache"]) == ("2", "hit")


def test_another_default_answers_anew(client: TestClient, registry: Registry) -> None:
    client.post(PATH, content=b"{}")
    load(registry, "3")
    response = client.post(PATH, content=b"{}")
    assert (response.text, response.headers["x-model-version"]) == ("3", "3")


def test_where_no_model_answers_there_is_no_version(client: TestClient) -> None:
    assert "x-model-version" not in client.post("/elsewhere").headers


def test_a_version_that_is_not_loaded_is_not_found(client: TestClient) -> None:
    response = client.post("/sum/versions/3/predict", content=b"{}")
    assert (response.status_code, response.json()) == (404, {"error": "no version 3 of sum, only 1, 2", "detail": []})


def test_versions_are_one_route_in_the_metrics(client: TestClient) -> None:
    def counted() -> float:
        labels = {"route": "/sum/versions/{version}/predict", "status": "404", "cache": "none", "model": "sum"}
        return metrics.samples().total("tiffin_requests_total", **labels)

    before = counted()
    for version in ("3", "4"):
        client.post(f"/sum/versions/{version}/predict", content=b"{}")
    assert counted() == before + 2


def test_nothing_is_stored_of_a_request_that_began_while_no_version_was_loaded(
    client: TestClient, registry: Registry
) -> None:
    for version in ("1", "2"):
        registry.remove(ModelId("sum", version))
    assert [client.post(PATH, content=b"{}").headers["x-cache"] for _ in range(2)] == ["miss", "miss"]
