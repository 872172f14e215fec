"""The routes of a model: requests parsed by their schema or by the route's own decoder, and errors."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel
from starlette.responses import Response

import models
from models.model import Array, Column, Columns, Infer, Model, route
from serving.bento.api import infer_method
from serving.explanations import ExplanationService
from serving.http.body import SMALL_BODY_BYTES
from serving.http.exchange import Exchange
from serving.http.routes import json_answer, respond
from serving.inference.context import own_context
from serving.inference.predictor import BLOCK_ROWS
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService

THREADS: list[threading.Thread] = []


class Numbers(BaseModel):
    numbers: list[int]


class Total(BaseModel):
    total: int


def decode(body: bytes) -> Numbers:
    """Parse the numbers and double them, which shows that this decoder was used; note the thread."""
    THREADS.append(threading.current_thread())
    return Numbers(numbers=[2 * number for number in Numbers.model_validate_json(body).numbers])


class Adder(Model[Array]):
    input = int
    inputs = (Column("number", int),)
    outputs = (Column("sum", int),)

    @classmethod
    def items(cls, columns: Columns) -> Array:
        THREADS.append(threading.current_thread())
        return columns["number"]

    def columns(self, outputs: Array) -> Columns:
        return {"sum": outputs}

    def preprocess(self, item: Array) -> dict[str, Array]:
        return {"x": item}

    @route()
    async def add(self, request: Numbers, infer: Infer[Array]) -> Total:
        """Add numbers up."""
        return Total(total=sum(request.numbers))

    @route(decode=decode)
    async def add_fast(self, request: Numbers, infer: Infer[Array]) -> Total:
        """Add numbers up, with a decoder of its own."""
        return Total(total=sum(request.numbers))


class Answering:
    """A predictor with nothing but a model."""

    id = ModelId("adder", "1")

    def __init__(self, folder: Path) -> None:
        self.model = Adder(folder)

    async def infer(self, items: Any, request: Any) -> Array:
        raise NotImplementedError

    async def outputs(self, items: Array, request: Any) -> list[Array]:
        return list(items)


@pytest.fixture(autouse=True)
def adder(monkeypatch: pytest.MonkeyPatch) -> None:
    THREADS.clear()
    monkeypatch.setattr(models, "find", lambda name: Adder)


def registry(folder: Path) -> Registry:
    """Return a registry with that model only."""
    predictor: Any = Answering(folder)
    made = Registry()
    made.add(predictor)
    return made


def answer(path: str, body: bytes, folder: Path) -> tuple[int, bytes]:
    """Send a JSON body to a route; return the status and body of the response."""

    async def use() -> Response:
        name = path.rpartition("/")[2]
        (declared,) = (declared for declared in Adder.routes() if declared.name == name)
        predictor = registry(folder).get("adder")

        async def responder(request: Any, exchange: Exchange) -> Response:
            return await respond(predictor, declared, request, 60, ExplanationService(), exchange)

        return await json_answer(declared, responder)(body, Exchange({}, own_context(60), []))

    response = asyncio.run(use())
    return response.status_code, bytes(response.body)


def test_a_route_reads_a_body_by_its_schema(tmp_path: Path) -> None:
    assert answer("/adder/add", b'{"numbers": [1, 2]}', tmp_path) == (200, b'{"total":3}')


def test_a_route_may_read_a_body_by_a_way_of_its_own(tmp_path: Path) -> None:
    assert answer("/adder/add_fast", b'{"numbers": [1, 2]}', tmp_path) == (200, b'{"total":6}')


@pytest.mark.parametrize("path", ["/adder/add", "/adder/add_fast"])
def test_either_way_tells_what_is_wrong(tmp_path: Path, path: str) -> None:
    status, body = answer(path, b'{"numbers": ["one"]}', tmp_path)
    assert status == 422
    assert b'"loc":["numbers",0]' in body
    assert answer(path, b'{"numbers": [', tmp_path)[0] == 400


@pytest.mark.parametrize("large", [False, True])
def test_a_large_body_is_read_beside_the_event_loop(tmp_path: Path, large: bool) -> None:
    answer("/adder/add_fast", b'{"numbers": [1]}' + large * SMALL_BODY_BYTES * b" ", tmp_path)
    assert ([threading.main_thread()] == THREADS) is not large


def test_the_items_of_infer_are_made_beside_the_event_loop(tmp_path: Path) -> None:
    answers: Any = SimpleNamespace(inference=InferenceService(registry(tmp_path)))
    method = infer_method("adder", 60)
    many = list(range(BLOCK_ROWS))
    assert asyncio.run(method.func(answers, items=many)) == many
    assert THREADS
    assert threading.main_thread() not in THREADS
