"""Statements of the specification that no test of a part of ours shows; tests/conformance lists all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from serving.http.v2.routes import v2_routes
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService
from serving.oip.repository import Repository
from serving.oip.service import TensorInference
from tests.support.edge import public_guards

ROW = [1.0, 1.0, 8.0, 153.0, 17.0, 2019.0]


def rows(datatype: str = "FP64", **changed: Any) -> dict[str, Any]:
    """Return two tumours as one tensor, changed."""
    return {
        "name": "rows",
        "shape": [2, 6],
        "datatype": datatype,
        "data": [*ROW, *(value / 4 for value in ROW)],
        **changed,
    }


def infer(client: httpx.Client, tensor: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """Return the answer to a tensor."""
    response = client.post("/v2/models/breast_cancer/infer", json={"inputs": [tensor], **rest})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def test_an_answer_has_the_fields_of_the_specification_and_no_others(client: httpx.Client) -> None:
    answer = infer(client, rows(), id="42")
    assert answer.keys() == {"model_name", "model_version", "id", "outputs"}
    assert [output.keys() for output in answer["outputs"]] == [{"name", "datatype", "shape", "data"}] * 2
    assert infer(client, rows()).keys() == {"model_name", "model_version", "outputs"}


def test_elements_may_be_flat_or_nested_as_the_shape_is(client: httpx.Client) -> None:
    flat = rows()
    nested = rows(data=[flat["data"][:6], flat["data"][6:]])
    assert infer(client, nested)["outputs"] == infer(client, flat)["outputs"]


@pytest.mark.parametrize("datatype", ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"])
def test_elements_may_be_of_each_datatype_of_whole_numbers(client: httpx.Client, datatype: str) -> None:
    whole = [[1, 1, 8, 120, 17, 120], [0, 0, 2, 38, 4, 100]]
    assert infer(client, rows(datatype, data=whole))["outputs"] == infer(client, rows(data=whole))["outputs"]


def test_elements_may_be_of_each_datatype_of_floating_numbers(client: httpx.Client) -> None:
    assert infer(client, rows("FP32"))["outputs"] == infer(client, rows())["outputs"]


def test_parameters_may_stand_wherever_the_specification_has_them(client: httpx.Client) -> None:
    parameters = {"text": "a", "number": 1, "fraction": 0.5, "true": True, "null": None}
    outputs = [{"name": name, "parameters": parameters} for name in ("label", "prediction")]
    answer = infer(client, rows(parameters=parameters), parameters=parameters, outputs=outputs)
    assert answer["outputs"] == infer(client, rows())["outputs"]


@pytest.mark.parametrize("content_type", ["pd", "np"])
def test_mlservers_names_for_the_content_of_numbers_change_nothing(client: httpx.Client, content_type: str) -> None:
    named = {"content_type": content_type}
    assert infer(client, rows(parameters=named), parameters=named)["outputs"] == infer(client, rows())["outputs"]


def test_a_slash_after_v2_is_taken(client: httpx.Client) -> None:
    assert client.get("/v2/").json() == client.get("/v2").json()


@pytest.fixture
def health() -> Callable[[bool], TestClient]:
    """Return a function that makes a client of a server which has loaded no model, and is ready or not."""

    async def load(_: ModelId) -> Predictor:
        raise AssertionError

    def made(ready: bool) -> TestClient:
        registry = Registry()
        inference = TensorInference(InferenceService(registry))
        repository = Repository(registry, [], list, load, "")
        routes = v2_routes([], inference, {}, public_guards(), repository, lambda: "1", lambda: ready)
        return TestClient(Starlette(routes=routes))

    return made


def test_a_server_that_is_not_ready_says_so_but_is_live(health: Callable[[bool], TestClient]) -> None:
    response = health(False).get("/v2/health/ready")
    assert (response.status_code, response.json()) == (503, {"ready": False})
    assert health(False).get("/v2/health/live").status_code == 200
    assert health(True).get("/v2/health/ready").status_code == 200
