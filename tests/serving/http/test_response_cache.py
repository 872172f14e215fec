"""Which version of a model answers, and that no answer of another one is given in its place."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from serving.caching.memory import MemoryCache
from serving.http.access import ApiKeys
from serving.http.body import BytesInFlight
from serving.http.edge import Edge
from serving.http.endpoints import Endpoint, Guards
from serving.http.response_cache import ResponseCache
from serving.inference.errors import UnknownModelError

PATH = "/sum/predict"


class Versions:
    """Answers with the version that is loaded."""

    def __init__(self) -> None:
        self.loaded = "1"

    async def answer(self, _: bytes) -> Response:
        return PlainTextResponse(self.loaded)


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def client(versions: Versions) -> TestClient:
    endpoint = Endpoint("POST", 100, cacheable=True, answer=versions.answer, version=lambda: versions.loaded)
    answers = ResponseCache(MemoryCache("response", 2**20, 180))
    guards = Guards(ApiKeys([], None), None, answers, BytesInFlight(2**20))
    return TestClient(Edge(Starlette(), Starlette(), {PATH: endpoint}, (), 60, 60, guards))


def test_an_answer_names_the_version_also_when_it_is_known(client: TestClient) -> None:
    for outcome in ("miss", "hit"):
        response = client.post(PATH, content=b"{}")
        assert (response.text, response.headers["x-model-version"], response.headers["x-cache"]) == ("1", "1", outcome)


def test_another_version_answers_anew(client: TestClient, versions: Versions) -> None:
    client.post(PATH, content=b"{}")
    versions.loaded = "2"
    response = client.post(PATH, content=b"{}")
    assert (response.text, response.headers["x-model-version"]) == ("2", "2")


def test_where_no_model_answers_there_is_no_version(client: TestClient) -> None:
    assert "x-model-version" not in client.post("/elsewhere").headers


def test_a_version_that_is_not_loaded_is_not_found() -> None:
    async def answer(_: bytes) -> Response:
        raise UnknownModelError("no version 3 of sum")

    guards = Guards(ApiKeys([], None), None, ResponseCache(MemoryCache("response", 0, 0)), BytesInFlight(2**20))
    app = Edge(Starlette(), Starlette(), {PATH: Endpoint("POST", 100, answer=answer)}, (), 60, 60, guards)
    response = TestClient(app).post(PATH, content=b"{}")
    assert (response.status_code, response.json()["error"]) == (404, "no version 3 of sum")
