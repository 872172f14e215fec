"""Thousands of concurrent requests, which share batches: each gets the answer for its own rows."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from loadtest.inputs import customer, text
from tests.clients.conftest import Server
from tests.clients.examples import READ, Array, columns, objects, predict_customers, predict_texts

CONCURRENT = 64
CUSTOMERS = 3_000
SENTENCES = 500
PART = 20
# A row is computed a little differently in a batch of another size.
ROUNDING = 1e-6


async def answers(kind: str, server: Server, model: str, requests: Sequence[dict[str, Array]], output: str) -> Any:
    """Return an output of each request, many of which are under way at a time; each must have its own id."""
    aio = importlib.import_module(f"tritonclient.{kind}.aio")
    tensors = importlib.import_module(f"tritonclient.{kind}")
    waiting = iter(enumerate(requests))
    found: dict[int, Any] = {}

    async def send(client: Any) -> None:
        for number, arrays in waiting:
            inputs = []
            for name, array in arrays.items():
                tensor = tensors.InferInput(name, list(array.shape), "BYTES" if array.dtype == object else "FP64")
                tensor.set_data_from_numpy(array)
                inputs.append(tensor)
            result = await client.infer(model, inputs, request_id=str(number))
            response = result.get_response()
            assert (response["id"] if kind == "http" else response.id) == str(number)
            found[number] = result.as_numpy(output).tolist()

    async with aio.InferenceServerClient(server.http if kind == "http" else server.grpc) as client:
        await asyncio.gather(*(send(client) for _ in range(CONCURRENT)))
    return [found[number] for number in range(len(requests))]


@pytest.mark.parametrize(("kind", "first"), [("http", 0), ("grpc", CUSTOMERS * 3)])
def test_rows_of_one_request_never_come_in_the_answer_to_another(
    server: Server, predict: httpx.Client, kind: str, first: int
) -> None:
    """Requests of one to three rows, of which none is known to the caches."""
    rows: list[list[dict[str, Any]]] = []
    for number in range(CUSTOMERS):
        begin = first + number * 3
        few = [customer(place) for place in range(begin, begin + 1 + number % 3)]
        rows.append([{name: row[name] for name in READ} for row in few])
    expected = predict_customers(predict, [row for few in rows for row in few])["class_probability"]
    assert len(set(expected)) > 0.9 * len(expected)  # or rows of others might not be noticed
    requests = [columns(few) for few in rows]
    found = asyncio.run(answers(kind, server, "segmentation", requests, "class_probability"))
    assert [len(answer) for answer in found] == [len(few) for few in rows]
    assert [value for answer in found for value in answer] == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize(("kind", "first"), [("http", 0), ("grpc", SENTENCES)])
def test_texts_of_one_request_never_come_in_the_answer_to_another(server: Server, kind: str, first: int) -> None:
    texts = [text(number) for number in range(first, first + SENTENCES)]
    requests = [{"text": objects([sentence])} for sentence in texts]
    found = asyncio.run(answers(kind, server, "sentiment", requests, "score"))
    with httpx.Client(base_url=server.url, headers={"Cache-Control": "no-store"}, timeout=60) as anew:
        parts = [texts[start : start + PART] for start in range(0, SENTENCES, PART)]
        expected = [score for part in parts for score in predict_texts(anew, part)["score"]]
    assert [score for (score,) in found] == pytest.approx(expected, abs=ROUNDING)
