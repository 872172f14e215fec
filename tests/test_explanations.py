"""`POST /<model>/explain` of every model, on a real server: what clients see of it."""

from __future__ import annotations

import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import models
from tests.support.answers import answer
from tests.support.photos import photo
from tests.support.rows import ROW, TUMOUR

FRESH = {"Cache-Control": "no-cache"}
BODIES: dict[str, dict[str, Any]] = {
    "sentiment": {"json": {"text": ["not bad, rather a delight"]}},
    "breast_cancer": {"json": TUMOUR},
    "segmentation": {"json": {"data": [ROW]}},
    "image": {"files": {"image_file": ("picture.png", photo("PNG", (64, 48)))}},
}


def explain(client: httpx.Client, name: str, **changes: Any) -> httpx.Response:
    """Ask for the explanation of a model's answer to its body above."""
    return client.post(f"/{name}/explain", **{**BODIES[name], **changes})


def total(found: dict[str, Any]) -> float:
    """Return the base and all contributions."""
    return float(found["base"] + sum(entry["value"] for entry in found["contributions"]))


@pytest.mark.parametrize("name", models.names())
def test_every_model_explains_what_it_predicts(client: httpx.Client, name: str) -> None:
    found = answer(explain(client, name))
    assert list(found) == ["prediction", "base", "contributions", "evaluations", "standard_error"]
    assert found["prediction"] == answer(client.post(f"/{name}/predict", **BODIES[name]))
    assert len({tuple(sorted(entry)) for entry in found["contributions"]}) == 1


@pytest.mark.parametrize("name", models.names())
def test_an_explanation_is_the_same_when_it_is_computed_again_and_cached_by_then(
    client: httpx.Client, name: str
) -> None:
    first, again, cached = (explain(client, name, headers=headers) for headers in (FRESH, FRESH, {}))
    assert first.json() == again.json() == cached.json()
    assert cached.headers["x-cache"] == "hit"
    assert cached.headers["x-model-version"] == first.headers["x-model-version"]


def test_the_words_of_a_text_sum_to_the_score_of_its_label(client: httpx.Client) -> None:
    text = BODIES["sentiment"]["json"]["text"][0]
    found = answer(explain(client, "sentiment"))
    assert [text[slice(*entry["span"])] for entry in found["contributions"]] == text.split()
    assert total(found) == pytest.approx(found["prediction"]["predictions"][0][0]["score"], abs=1e-6)
    assert (found["evaluations"], found["standard_error"]) == (2**5 - 1, 0)
    best = max(found["contributions"], key=lambda entry: entry["value"])
    assert text[slice(*best["span"])] == "delight"


def test_of_more_than_eight_words_permutations_are_sampled(client: httpx.Client) -> None:
    text = "an utterly charming film that nobody who has ever been in love should miss"
    found = answer(explain(client, "sentiment", json={"text": [text]}))
    assert total(found) == pytest.approx(found["prediction"]["predictions"][0][0]["score"], abs=1e-6)
    assert found["standard_error"] > 0


def test_the_columns_of_a_tumour_sum_to_its_label(client: httpx.Client) -> None:
    found = answer(explain(client, "breast_cancer"))
    assert [entry["name"] for entry in found["contributions"]] == list(TUMOUR)
    assert total(found) == pytest.approx(1)
    assert 0 < found["base"] < 1


def test_the_terms_of_the_glm_sum_to_its_log_odds(client: httpx.Client) -> None:
    found = answer(explain(client, "segmentation"))
    assert [entry["name"] for entry in found["contributions"]] == found["prediction"]["input_variables"]
    assert 1 / (1 + math.exp(-total(found))) == pytest.approx(found["prediction"]["class_probability"][0], abs=1e-6)


def test_the_boxes_of_a_picture_cover_it(client: httpx.Client) -> None:
    found = answer(explain(client, "image"))
    boxes = np.array([entry["box"] for entry in found["contributions"]])
    assert boxes.min(0)[:2].tolist() == [0, 0]
    assert boxes.max(0)[2:].tolist() == [64, 48]
    assert ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum() == 64 * 48


@pytest.mark.parametrize("accept", ["image/png", "image/png, application/json;q=0.5"])
def test_a_picture_s_explanation_is_a_heat_map_where_that_is_asked_for(client: httpx.Client, accept: str) -> None:
    response = explain(client, "image", headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(response.content)).size == (256, 256)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/png;q=0", "image/png;q=0.2, application/json"])
def test_else_it_is_json(client: httpx.Client, accept: str) -> None:
    assert answer(explain(client, "image", headers={"Accept": accept}))["contributions"]


def test_one_of_one_word_and_one_of_none_are_explained(client: httpx.Client) -> None:
    one, none = (answer(explain(client, "sentiment", json={"text": [text]})) for text in (" dull ", " \n"))
    assert [entry["span"] for entry in one["contributions"]] == [[1, 5]]
    assert none["contributions"] == []
    assert none["base"] == pytest.approx(none["prediction"]["predictions"][0][0]["score"])


@pytest.mark.parametrize(
    ("name", "body", "location"),
    [
        ("sentiment", {"text": ["a", "b"]}, ["text"]),
        ("sentiment", {"text": ["a"] * 256}, ["text"]),
        ("segmentation", {"data": [{}, {}]}, ["data"]),
        ("segmentation", {"data": [{}] * 1_000}, ["data"]),
    ],
)
def test_more_than_one_item_is_refused_by_name(client: httpx.Client, name: str, body: Any, location: list[str]) -> None:
    response = explain(client, name, json=body)
    assert response.status_code == 422
    assert [(entry["loc"], entry["type"]) for entry in response.json()["detail"]] == [(location, "too_long")]


@pytest.mark.parametrize(
    "text", ["a " * 5_000, "a" * 10_000, "\U0001f600 " * 5_000, "\ud800 lone", "\0", "a\u2028b " * 2_000]
)
def test_whatever_text_comes_costs_no_more_than_the_time_of_a_request(client: httpx.Client, text: str) -> None:
    # Every character that is not ASCII as an escape, so that halves of surrogate pairs get through.
    body = json.dumps({"text": [text]})
    response = client.post("/sentiment/explain", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (200, 400, 422, 503), response.text
    if response.status_code == 200:
        assert len(response.json()["contributions"]) <= 64


def test_ten_thousand_words_are_over_what_predict_takes(client: httpx.Client) -> None:
    response = explain(client, "sentiment", json={"text": ["a " * 10_000]})
    assert response.status_code == 422
    assert response.json()["detail"][0]["type"] == "string_too_long"


@pytest.mark.parametrize("content", [b"", b"no picture", photo("PNG")[:-40]])
def test_what_is_no_picture_is_refused_as_by_predict(client: httpx.Client, content: bytes) -> None:
    answers = [
        client.post(f"/image/{route}", files={"image_file": ("picture", content)}) for route in ("predict", "explain")
    ]
    assert [response.status_code for response in answers] == [422, 422]
    assert answers[0].json() == answers[1].json()


def test_a_huge_picture_is_explained_or_refused(client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("RGB", (5_000, 5_000), "teal").save(file, "JPEG")
    found = answer(client.post("/image/explain", files={"image_file": ("large.jpg", file.getvalue())}))
    assert found["contributions"][-1]["box"][2:] == [5_000, 5_000]
    assert {entry["value"] for entry in found["contributions"]} != {None}


def test_others_are_answered_while_explanations_are_computed(client: httpx.Client) -> None:
    texts = [f"{number} ways to be charming, and this long and dreary film has none of them" for number in range(12)]
    with ThreadPoolExecutor(13) as threads:
        explaining = [threads.submit(explain, client, "sentiment", json={"text": [text]}) for text in texts]
        plain = answer(client.post("/sentiment/predict", json={"text": ["a fine film"]}))
        statuses = {response.result().status_code for response in explaining}
    assert plain["predictions"]
    # Those that would wait too long for their turn are refused; none is late.
    assert statuses <= {200, 503}
    assert 200 in statuses
