"""The fuzz notices responses that the OpenAPI document does not describe."""

from __future__ import annotations

import httpx
import pytest

from tests.attacks.client import Answer
from tests.fuzz_answers import DocumentedAnswers
from tests.support.rows import TUMOUR

PATH = "/breast_cancer/predict"
JSON = "application/json"


@pytest.fixture(scope="module")
def documented(client: httpx.Client) -> DocumentedAnswers:
    """Return the response schemas of the server's own document."""
    return DocumentedAnswers(client.get("/docs.json").json())


@pytest.mark.parametrize("body", [TUMOUR, {}])
def test_an_answer_of_the_server_is_as_documented(
    client: httpx.Client, documented: DocumentedAnswers, body: dict[str, float]
) -> None:
    response = client.post(PATH, json=body)
    answer = Answer(response.status_code, response.content, media_type=response.headers["content-type"])
    assert documented.fault_of(PATH, answer) is None


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(200, b'{"label": "M"}', media_type=JSON), "at $: 'prediction' is a required property"),
        (Answer(200, b'{"label": "X", "prediction": 1}', media_type=JSON), "at $.label: 'X' is not one of"),
        (Answer(200, b'{"label": "M", "prediction": NaN}', media_type=JSON), "not JSON: NaN"),
        (Answer(200, b'{"label": "M", "prediction": 1}', media_type="text/plain"), "media type 'text/plain'"),
        (Answer(422, b'{"error": "null"}', media_type=JSON), "at $: 'detail' is a required property"),
        (Answer(418, b'{"error": "teapot", "detail": []}', media_type=JSON), "status 418, which is not documented"),
    ],
)
def test_an_answer_that_is_not_as_documented_is_found(
    documented: DocumentedAnswers, answer: Answer, fault: str
) -> None:
    assert fault in (documented.fault_of(PATH, answer) or "")


def test_an_answer_to_a_path_without_a_document_is_not_judged(documented: DocumentedAnswers) -> None:
    assert documented.fault_of("odd", Answer(404)) is None
