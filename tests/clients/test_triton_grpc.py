"""What tritonclient's clients have over gRPC alone: streams, callbacks, compression, time limits of the client's."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from tests.clients.conftest import Server
from tests.clients.examples import Array, objects, plain, predict_texts

WAIT_SECONDS = 60
TEXTS = [f"text {number} of a stream" for number in range(50)]


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield client


def tensor(texts: list[str]) -> Any:
    """Return texts as the input of sentiment."""
    array: Array = objects(texts)
    made = tritonclient.grpc.InferInput("text", [len(texts)], "BYTES")
    made.set_data_from_numpy(array)
    return made


def test_requests_in_the_background_get_their_own_answers(client: Any, predict: httpx.Client) -> None:
    expected = predict_texts(predict, TEXTS)["score"]
    answers: queue.Queue[Any] = queue.Queue()
    for number, text in enumerate(TEXTS):
        client.async_infer(
            "sentiment", [tensor([text])], lambda result, error: answers.put((result, error)), request_id=str(number)
        )
    found = [answers.get(timeout=WAIT_SECONDS) for _ in TEXTS]
    assert [error for _, error in found if error is not None] == []
    assert {result.get_response().id: result.as_numpy("score").tolist() for result, _ in found} == {
        str(number): [score] for number, score in enumerate(expected)
    }


def test_a_stream_answers_each_request_and_goes_on_after_a_fault(client: Any, predict: httpx.Client) -> None:
    expected = predict_texts(predict, TEXTS)["score"]
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("sentiment", [tensor([""])], request_id="empty")
    for number, text in enumerate(TEXTS):
        client.async_stream_infer("sentiment", [tensor([text])], request_id=str(number))
    found = [answers.get(timeout=WAIT_SECONDS) for _ in range(len(TEXTS) + 1)]
    client.stop_stream()
    (fault,) = [error for _, error in found if error is not None]
    assert "text, row 0" in fault.message()
    results = [result for result, error in found if error is None]
    assert {result.get_response().id: result.as_numpy("score").tolist() for result in results} == {
        str(number): [score] for number, score in enumerate(expected)
    }


def test_an_asynchronous_stream_answers_each_request(server: Server, predict: httpx.Client) -> None:
    expected = predict_texts(predict, TEXTS)["score"]

    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, text in enumerate(TEXTS):
            yield {"model_name": "sentiment", "inputs": [tensor([text])], "request_id": str(number)}

    async def scores() -> dict[str, list[float]]:
        found = {}
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
            async for result, error in client.stream_infer(requests()):
                assert error is None
                found[result.get_response().id] = result.as_numpy("score").tolist()
                if len(found) == len(TEXTS):
                    break
        return found

    assert asyncio.run(scores()) == {str(number): [score] for number, score in enumerate(expected)}


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_may_be_compressed(client: Any, algorithm: str) -> None:
    result = client.infer("sentiment", [tensor(TEXTS)], compression_algorithm=algorithm)
    assert plain(result.as_numpy("label")) == plain(client.infer("sentiment", [tensor(TEXTS)]).as_numpy("label"))


def test_a_time_limit_of_the_client_is_a_deadline(client: Any) -> None:
    texts = [f"text {number} for which nobody waits long" * 50 for number in range(200)]
    with pytest.raises(InferenceServerException) as caught:
        client.infer("sentiment", [tensor(texts)], client_timeout=0.01)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_a_request_that_is_cancelled_leaves_the_server_well(client: Any) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    texts = [f"text {number} that is not wanted" * 50 for number in range(200)]
    call = client.async_infer("sentiment", [tensor(texts)], lambda result, error: answers.put(error))
    call.cancel()
    assert answers.get(timeout=WAIT_SECONDS).status() == "StatusCode.CANCELLED"
    assert client.is_server_ready()
