"""The requests of load tests: each depends on its number alone, no two are alike, and the server takes them."""

from __future__ import annotations

import io

import httpx
import pytest
from PIL import Image

from loadtest import inputs


@pytest.mark.parametrize("model", inputs.REQUESTS)
def test_a_request_depends_on_its_number_alone(model: str) -> None:
    made = inputs.REQUESTS[model]
    assert made(7) == made(7)
    assert len({made(number).body for number in range(2_000)}) == 2_000


@pytest.mark.parametrize("model", inputs.REQUESTS)
def test_the_server_takes_a_request(server: str, model: str) -> None:
    for number in range(5):
        request = inputs.REQUESTS[model](number)
        headers = {"content-type": request.content_type}
        assert httpx.post(server + request.path, content=request.body, headers=headers).status_code == 200


def test_the_server_takes_a_file_of_rows(server: str) -> None:
    request = inputs.segmentation_file(0, rows=200)
    headers = {"content-type": request.content_type}
    answer = httpx.post(server + request.path, content=request.body, headers=headers)
    assert len(answer.json()["predicted_class"]) == 200


def test_texts_are_as_long_as_sentences() -> None:
    lengths = [len(inputs.text(number).split()) for number in range(500)]
    assert 18 < sum(lengths) / len(lengths) < 20
    assert min(lengths) >= 3
    assert max(lengths) <= 50


def test_a_comment_does_not_change_a_picture() -> None:
    number = 3 * inputs.PICTURES + 5
    with Image.open(io.BytesIO(inputs.picture(number))) as picture:
        assert picture.info["comment"] == str(number).encode()
        with Image.open(io.BytesIO(inputs.pictures()[5])) as original:
            assert picture.tobytes() == original.tobytes()
