"""Bad JSON and requests, by mistake or malice, get the status and message of the contract, never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.bad_input import JSON, JSON_ROUTES, NESTED, error_details
from tests.support.rows import ROW, TUMOUR


def changed(valid: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (valid | changes).items() if value is not ...}


# Path, body, location and type of the only error.
UNPROCESSABLE = [
    # sentiment
    ("/sentiment/predict", {}, ["text"], "missing"),
    ("/sentiment/predict", [], [], "model_type"),
    ("/sentiment/predict", "text", [], "model_type"),
    ("/sentiment/predict", None, [], "model_type"),
    ("/sentiment/predict", {"texts": ["a"]}, ["text"], "missing"),
    ("/sentiment/predict", {"text": "a"}, ["text"], "list_type"),
    ("/sentiment/predict", {"text": None}, ["text"], "list_type"),
    ("/sentiment/predict", {"text": []}, ["text"], "too_short"),
    ("/sentiment/predict", {"text": ["a"] * 257}, ["text"], "too_long"),
    ("/sentiment/predict", {"text": ["a", ""]}, ["text", 1], "string_too_short"),
    ("/sentiment/predict", {"text": ["a" * 10_001]}, ["text", 0], "string_too_long"),
    ("/sentiment/predict", {"text": [1]}, ["text", 0], "string_type"),
    ("/sentiment/predict", {"text": [None]}, ["text", 0], "string_type"),
    ("/sentiment/predict", {"text": [["a"]]}, ["text", 0], "string_type"),
    ("/sentiment/predict", {"text": [{"a": "b"}]}, ["text", 0], "string_type"),
    # breast_cancer
    ("/breast_cancer/predict", changed(TUMOUR, area_se=...), ["area_se"], "missing"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=None), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se="large"), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=True), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=[153.4]), ["area_se"], "float_type"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=-1), ["area_se"], "greater_than_equal"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=-1e-300), ["area_se"], "greater_than_equal"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=float("nan")), ["area_se"], "finite_number"),
    ("/breast_cancer/predict", changed(TUMOUR, area_se=float("inf")), ["area_se"], "finite_number"),
    ("/breast_cancer/predict", [TUMOUR], [], "model_type"),
    # segmentation
    ("/segmentation/predict", {}, ["data"], "missing"),
    ("/segmentation/predict", {"data": []}, ["data"], "too_short"),
    ("/segmentation/predict", {"data": {}}, ["data"], "list_type"),
    ("/segmentation/predict", {"data": ROW}, ["data"], "list_type"),
    ("/segmentation/predict", {"data": [[1, 2]]}, ["data", 0], "dict_type"),
    ("/segmentation/predict", {"data": [{}, None]}, ["data", 1], "dict_type"),
    ("/segmentation/predict", {"data": [{}] * 10_001}, ["data"], "too_long"),
    ("/segmentation/predict", {"data": [{"x91": "abc"}]}, ["data", 0, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x91": True}]}, ["data", 0, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x91": [1]}]}, ["data", 0, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x91": float("nan")}]}, ["data", 0, "x91"], "finite_number"),
    ("/segmentation/predict", {"data": [{"x12": float("-inf")}]}, ["data", 0, "x12"], "finite_number"),
    ("/segmentation/predict", {"data": [{"x5": 1}]}, ["data", 0, "x5"], "string_type"),
    ("/segmentation/predict", {"data": [{"x12": "much"}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x12": "($5"}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x12": ""}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x91": 1}] * 700 + [{"x91": {}}]}, ["data", 700, "x91"], "float_type"),
    ("/segmentation/predict", {"data": [{"x12": "66,55"}]}, ["data", 0, "x12"], "money"),
    ("/segmentation/predict", {"data": [{"x12": {}}]}, ["data", 0, "x12"], "float_type"),
    # infer
    ("/sentiment/infer", {"items": []}, ["items"], "too_short"),
    ("/sentiment/infer", {"items": [1]}, ["items", 0], "string_type"),
    ("/sentiment/infer", {"items": ["a"] * 257}, ["items"], "too_long"),
    ("/breast_cancer/infer", {"items": [changed(TUMOUR, area_se=-1)]}, ["items", 0, "area_se"], "greater_than_equal"),
    ("/segmentation/infer", {"items": [{"x12": "much"}]}, ["items", 0, "x12"], "money"),
]


@pytest.mark.parametrize(("path", "body", "location", "kind"), UNPROCESSABLE)
def test_what_does_not_fit_the_schema_is_422(
    client: httpx.Client, path: str, body: Any, location: list[str | int], kind: str
) -> None:
    (problem,) = error_details(client.post(path, content=json.dumps(body), headers=JSON), 422)
    assert (problem["loc"], problem["type"]) == (location, kind)


def test_each_problem_has_an_entry(client: httpx.Client) -> None:
    response = client.post(
        "/breast_cancer/predict", json=changed(TUMOUR, area_se=-1, texture_worst="a", area_worst=...)
    )
    assert {entry["loc"][0] for entry in error_details(response, 422)} == {"area_se", "texture_worst", "area_worst"}


@pytest.mark.parametrize("name", TUMOUR)
@pytest.mark.parametrize("zero", [0, -0.0])
def test_a_measurement_may_be_zero(client: httpx.Client, name: str, zero: float) -> None:
    row = changed(TUMOUR, **{name: zero})
    assert client.post("/breast_cancer/predict", json=row).status_code == 200
    assert client.post("/breast_cancer/infer", json={"items": [row]}).status_code == 200


def test_a_number_that_overflows_is_422(client: httpx.Client) -> None:
    body = json.dumps(TUMOUR).replace("153.4", "1e999")
    (problem,) = error_details(client.post("/breast_cancer/predict", content=body, headers=JSON), 422)
    assert problem["type"] == "finite_number"


def test_an_amount_that_overflows_is_422(client: httpx.Client) -> None:
    (problem,) = error_details(client.post("/segmentation/predict", json={"data": [{"x12": "9" * 400}]}), 422)
    assert problem["loc"] == ["data", 0, "x12"]


def test_extra_fields_are_ignored(client: httpx.Client) -> None:
    assert client.post("/breast_cancer/predict", json=TUMOUR | {"extra": 1}).status_code == 200
    assert client.post("/sentiment/predict", json={"text": ["a"], "extra": 1}).status_code == 200


@pytest.mark.parametrize("value", ["abc", True, [1], {"a": [float("nan")]}, "$3"])
def test_columns_that_the_model_does_not_read_may_hold_anything(client: httpx.Client, value: Any) -> None:
    row = {"x5": "monday", "x0": value, "x63": value, "x82": value, "y": value}
    predicted = client.post("/segmentation/predict", content=json.dumps({"data": [row]}), headers=JSON)
    inferred = client.post("/segmentation/infer", content=json.dumps({"items": [row]}), headers=JSON)
    assert predicted.status_code == 200, predicted.text
    assert inferred.status_code == 200, inferred.text


def test_a_huge_number_is_answered(client: httpx.Client) -> None:
    assert client.post("/breast_cancer/predict", json=changed(TUMOUR, area_se=1e300)).status_code == 200
    body = {"data": [{"x91": 1e300, "x53": 1e300}, {"x91": -1e300, "x12": 1e308}]}
    for probability in client.post("/segmentation/predict", json=body).json()["class_probability"]:
        assert 0 <= probability <= 1


UNREADABLE = [
    b"",
    b"{",
    b'{"text": ["a"]',
    b"text",
    b"{'text': 1}",
    b"\xff\xfe\x00",
    b'{"text": ["\xff"]}',
    b'{"text": ["\\ud8"]}',
    b"{} {}",
    b"\x00" * 100,
    NESTED.encode()[:8_000],
]


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize("body", UNREADABLE, ids=range(len(UNREADABLE)))
def test_unreadable_json_is_400(client: httpx.Client, path: str, body: bytes) -> None:
    error_details(client.post(path, content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sentiment/predict", b'{"text": ["fine", "cut \\ud83d"]}'),
        ("/sentiment/infer", b'{"items": ["fine", "cut \\ud83d"]}'),
        ("/segmentation/predict", b'{"data": [{"x5": "\\ude00"}, {"x91": 1.5}]}'),
        ("/segmentation/infer", b'{"items": [{"x5": "\\ude00"}, {"x91": 1.5}]}'),
    ],
)
def test_half_an_emoji_costs_the_others_nothing(client: httpx.Client, path: str, body: bytes) -> None:
    assert client.post(path, content=body, headers=JSON).status_code == 200


@pytest.mark.parametrize("path", JSON_ROUTES)
@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/vnd.bentoml+pickle"],
)
def test_json_routes_refuse_other_media_types(client: httpx.Client, path: str, media_type: str) -> None:
    error_details(client.post(path, content=b"{}", headers={"content-type": media_type}), 415)


def test_a_charset_and_capitals_are_admitted(client: httpx.Client) -> None:
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post("/breast_cancer/predict", content=json.dumps(TUMOUR), headers=headers).status_code == 200


STRANGE_TEXTS = {
    "emoji": "😀👨‍👩‍👧‍👦🏳️‍🌈",
    "null bytes": "good\x00bad\x00",
    "only null bytes": "\x00" * 100,
    "right to left": "فيلم رائع \u202e dlrow",
    "white space": " \t\n\r\u00a0\u2003",
    "control characters": "".join(map(chr, range(1, 32))),
    "combining": "e" + "\u0301" * 9_000,
    "one word": "a" * 10_000,
    "ideographs": "好" * 10_000,
    "highest plane": "\U0010ffff" * 100,
    "replacement": "\ufffd\ufeff",
    "special tokens": "[CLS] [SEP] [MASK] [PAD] [UNK]",
}


@pytest.mark.parametrize("text", STRANGE_TEXTS.values(), ids=STRANGE_TEXTS)
def test_strange_texts_are_answered(client: httpx.Client, text: str) -> None:
    predictions = client.post("/sentiment/predict", json={"text": [text]}).json()["predictions"]
    assert sum(entry["score"] for entry in predictions[0]) == pytest.approx(1)


@pytest.mark.parametrize("category", ["", "😀", "\x00", "a" * 100_000, "فيلم"])
def test_strange_categories_are_the_reference(client: httpx.Client, category: str) -> None:
    body = {"data": [{"x5": category}, {"x5": None}]}
    first, second = client.post("/segmentation/predict", json=body).json()["class_probability"]
    assert first == second


def test_a_body_over_the_limit_is_413(client: httpx.Client) -> None:
    body = b'{"text": ["' + b"a" * (32 * 2**20) + b'"]}'
    error_details(client.post("/sentiment/predict", content=body, headers=JSON), 413)


def test_a_body_over_the_limit_without_declared_length_is_413(client: httpx.Client) -> None:
    def chunks() -> Any:
        for _ in range(33):
            yield b"a" * 2**20

    error_details(client.post("/sentiment/predict", content=chunks(), headers=JSON), 413)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/sentiment", "/predict", "/sentiment/predict//", "/docs.json//", "/../etc/passwd", "/%00", "/é"],
)
def test_an_unknown_path_is_404(client: httpx.Client, path: str) -> None:
    error_details(client.get(path), 404)
    error_details(client.post(path, json={}), 404)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_405(client: httpx.Client, method: str) -> None:
    response = client.request(method, "/sentiment/predict")
    error_details(response, 405)
    assert response.headers["allow"] == "POST"


def test_junk_makes_no_series_of_metrics(client: httpx.Client) -> None:
    for i in range(20):
        client.get(f"/junk-{i}")
    assert "junk" not in client.get("/metrics").text
