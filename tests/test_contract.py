"""The table of routes that clients depend on, row by row, against a real server process."""

from __future__ import annotations

import re
from typing import Any

import bentoml
import httpx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

import models
from models.segmentation.columns import VARIABLES
from tests.support.answers import answer, classify
from tests.support.photos import photo
from tests.support.rows import OTHER_ROW, ROW, TUMOUR, written


def test_sentiment_gives_per_text_all_labels_highest_first(client: httpx.Client) -> None:
    body = {"text": ["a wonderful film", "a waste of time"]}
    predictions = answer(client.post("/sentiment/predict", json=body))["predictions"]
    assert [ranked[0]["label"] for ranked in predictions] == ["POSITIVE", "NEGATIVE"]
    for ranked in predictions:
        assert {entry["label"] for entry in ranked} == {"POSITIVE", "NEGATIVE"}
        assert ranked[0]["score"] > ranked[1]["score"]
        assert sum(entry["score"] for entry in ranked) == pytest.approx(1)


def test_sentiment_takes_256_texts_of_10_000_characters(client: httpx.Client) -> None:
    texts = [f"{i} " + "good " * 1_999 for i in range(3)] + ["x"] * 253
    assert len(answer(client.post("/sentiment/predict", json={"text": texts}))["predictions"]) == 256


def test_sentiment_ignores_tokens_past_the_maximum_length(client: httpx.Client) -> None:
    start = "dreadful " * 600
    body = {"text": [start + "marvellous " * 100, start + "table " * 100]}
    first, second = answer(client.post("/sentiment/predict", json=body))["predictions"]
    assert first[0]["score"] == pytest.approx(second[0]["score"])


def test_breast_cancer_classifies_the_example_as_malignant(client: httpx.Client) -> None:
    assert answer(client.post("/breast_cancer/predict", json=TUMOUR)) == {"label": "M", "prediction": 1}


def test_breast_cancer_classifies_a_benign_tumour(client: httpx.Client) -> None:
    benign = {
        "concavity_mean": 0.04,
        "concave_points_mean": 0.02,
        "perimeter_se": 1.8,
        "area_se": 19.0,
        "texture_worst": 22.0,
        "area_worst": 540.0,
    }
    assert answer(client.post("/breast_cancer/predict", json=benign)) == {"label": "B", "prediction": 0}


def test_segmentation_gives_probability_and_class_per_row(client: httpx.Client) -> None:
    result = answer(client.post("/segmentation/predict", json={"data": [ROW, OTHER_ROW]}))
    assert result["input_variables"] == list(VARIABLES)
    assert len(result["class_probability"]) == 2
    assert result["predicted_class"] == [int(p > 0.75) for p in result["class_probability"]]


def test_segmentation_takes_a_missing_field_for_null(client: httpx.Client) -> None:
    null = ROW | dict.fromkeys(("x91", "x12", "x5", "x0"))
    absent = {name: value for name, value in null.items() if value is not None}
    result = answer(client.post("/segmentation/predict", json={"data": [null, absent, {}]}))
    first, second, _ = result["class_probability"]
    assert first == second


def test_segmentation_ignores_extra_fields(client: httpx.Client) -> None:
    body = {"data": [ROW, ROW | {"y": 1, "comment": ["any", "thing"]}]}
    first, second = answer(client.post("/segmentation/predict", json=body))["class_probability"]
    assert first == second


def test_segmentation_takes_an_unknown_category_for_the_reference(client: httpx.Client) -> None:
    body = {"data": [ROW | {"x31": "atlantis", "x81": "Brumaire"}, ROW | {"x31": "america", "x81": "April"}]}
    first, second = answer(client.post("/segmentation/predict", json=body))["class_probability"]
    assert first == second


@pytest.mark.parametrize(
    ("text", "number"), [("$5,547.78", 5547.78), ("$-5,032.58 ", -5032.58), ("($66.55)", -66.55), ("12", 12)]
)
def test_segmentation_reads_money(client: httpx.Client, text: str, number: float) -> None:
    body = {"data": [ROW | {"x12": text}, ROW | {"x12": number}]}
    first, second = answer(client.post("/segmentation/predict", json=body))["class_probability"]
    assert first == second


def test_segmentation_takes_ten_thousand_rows(client: httpx.Client) -> None:
    result = answer(client.post("/segmentation/predict", json={"data": [ROW] * 10_000}))
    assert result["class_probability"] == pytest.approx([result["class_probability"][0]] * 10_000)


def csv_file(rows: list[dict[str, Any]]) -> bytes:
    lines = [",".join(rows[0])]
    lines += [
        ",".join("" if v is None else f'"{v}"' if "," in str(v) else str(v) for v in row.values()) for row in rows
    ]
    return "\r\n".join(lines).encode()


def parquet_file(rows: list[dict[str, Any]]) -> bytes:
    return written(pa.Table.from_pylist(rows))


def json_file(rows: list[dict[str, Any]]) -> bytes:
    return httpx.Request("POST", "http://x", json={"note": [1], "data": rows}).content


@pytest.mark.parametrize("write", [csv_file, parquet_file, json_file])
def test_segmentation_answers_a_file_as_it_answers_rows(client: httpx.Client, write: Any) -> None:
    rows = [ROW, OTHER_ROW]
    expected = answer(client.post("/segmentation/predict", json={"data": rows}))
    result = answer(client.post("/segmentation/uploadfile", files={"file": ("rows", write(rows))}))
    assert result["class_probability"] == pytest.approx(expected["class_probability"])
    assert result["predicted_class"] == expected["predicted_class"]
    assert result["input_variables"] == expected["input_variables"]


@pytest.mark.parametrize("write", [csv_file, parquet_file])
def test_segmentation_takes_a_file_of_100_000_rows(client: httpx.Client, write: Any) -> None:
    rows = [{"x91": i / 100_000, "x5": "monday"} for i in range(100_000)]
    result = answer(client.post("/segmentation/uploadfile", files={"file": ("rows", write(rows))}))
    assert len(result["class_probability"]) == 100_000
    assert result["class_probability"] == sorted(result["class_probability"])


def test_image_gives_label_score_and_the_best_five(client: httpx.Client) -> None:
    result = answer(classify(client, photo()))
    assert set(result) == {"Label", "Score", "predictions"}
    scores = [entry["score"] for entry in result["predictions"]]
    assert len(scores) == 5
    assert scores == sorted(scores, reverse=True)
    assert result["predictions"][0] == {"label": result["Label"], "score": result["Score"]}


def test_image_without_post_processing_gives_logits(client: httpx.Client) -> None:
    result = answer(classify(client, photo(), with_post_process="false"))
    assert set(result) == {"logits"}
    assert len(result["logits"]) == 10


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_image_resizes_by_default(client: httpx.Client, form: str) -> None:
    assert len(answer(classify(client, photo(form, (320, 200))))["predictions"]) == 5


def test_image_of_another_size_is_an_error_without_resizing(client: httpx.Client) -> None:
    response = classify(client, photo(size=(33, 32)), with_resize="false")
    assert response.status_code == 422
    assert response.json()["detail"][0]["type"] == "image_size"


def test_image_of_the_models_size_needs_no_resizing(client: httpx.Client) -> None:
    assert answer(classify(client, photo(), with_resize="false")) == answer(classify(client, photo()))


def test_infer_of_texts_gives_one_output_per_item(client: httpx.Client) -> None:
    outputs = answer(client.post("/sentiment/infer", json={"items": ["good", "bad", "good"]}))
    assert len(outputs) == 3
    assert outputs[0] == outputs[2] != outputs[1]


def test_infer_of_rows_gives_one_output_per_item(client: httpx.Client) -> None:
    expected = answer(client.post("/segmentation/predict", json={"data": [ROW, OTHER_ROW]}))["class_probability"]
    outputs = answer(client.post("/segmentation/infer", json={"items": [ROW, OTHER_ROW]}))
    assert [second for _, second in outputs] == pytest.approx(expected)
    assert answer(client.post("/breast_cancer/infer", json={"items": [TUMOUR]})) == [1]


def test_infer_of_images_gives_one_output_per_item(client: httpx.Client) -> None:
    logits = answer(classify(client, photo(), with_post_process="false"))["logits"]
    files = [("items", ("a", photo())), ("items", ("b", photo("WEBP", (50, 40))))]
    outputs = answer(client.post("/image/infer", files=files))
    assert len(outputs) == 2
    assert outputs[0] == pytest.approx(logits)


def test_infer_fails_only_the_request_with_the_bad_item(client: httpx.Client) -> None:
    response = client.post("/image/infer", files=[("items", ("a", photo())), ("items", ("b", b"no picture"))])
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["items", 1]


@pytest.mark.parametrize("name", models.names())
def test_info_tells_what_is_known_of_a_model(client: httpx.Client, name: str) -> None:
    info = answer(client.get(f"/{name}/info"))
    assert info["name"] == name
    assert info["version"].startswith(f"{name}:")
    assert info["framework"]
    assert len(info["labels"]) >= 2
    assert info["input_schema"]["properties"]
    assert info["output_schema"]["properties"]
    assert info["metrics"]
    assert set(info["card"]) == {"summary", "data", "licence", "procedure", "limits", "metrics"}
    assert info["training_data"]["rows"] > 0
    assert info["training_data"]["digest"].startswith("sha256:")


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health_is_200(client: httpx.Client, path: str) -> None:
    assert isinstance(answer(client.get(path)), dict)


def test_metrics_are_in_prometheus_text_format(client: httpx.Client) -> None:
    client.post("/breast_cancer/predict", json=TUMOUR)
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert re.search(r'tiffin_requests_total{.*,route="/breast_cancer/predict",status="200",.*} \d', response.text)


def test_the_page_and_its_files_are_there(client: httpx.Client) -> None:
    page = client.get("/")
    files = re.findall(r'(?:href|src)="\./(static/[^"]+)"', page.text)
    assert len(files) == 3
    assert all(client.get(file).status_code == 200 for file in files)


def test_docs_is_swagger_ui_and_its_files_are_there(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert "SwaggerUIBundle" in page.text
    for file in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"./static_content/{file}" in page.text
        assert client.get(f"/static_content/{file}").status_code == 200


def test_every_route_is_documented(client: httpx.Client) -> None:
    paths = answer(client.get("/docs.json"))["paths"]
    for name in models.names():
        for route in ("predict", "infer"):
            post = paths[f"/{name}/{route}"]["post"]
            assert set(post["responses"]) == {"200", "400", "401", "408", "413", "415", "422", "429", "503", "504"}
            assert post["tags"] == [name]
        assert "get" in paths[f"/{name}/info"]
    assert {"/segmentation/uploadfile", "/health", "/livez", "/readyz", "/metrics"} <= set(paths)


def test_every_documented_example_works(client: httpx.Client) -> None:
    paths = answer(client.get("/docs.json"))["paths"]
    tried = 0
    for path, methods in paths.items():
        if "{" in path:
            continue
        if "get" in methods:
            assert client.get(path).status_code == 200, path
        content = methods.get("post", {}).get("requestBody", {}).get("content", {})
        if "application/json" in content:
            response = client.post(path, json=content["application/json"]["schema"]["example"])
            assert response.status_code == 200, f"{path}: {response.text}"
            tried += 1
    assert tried == 14


def test_bentoml_client_can_call_every_model(server: str) -> None:
    with bentoml.SyncHTTPClient(server) as client:
        assert client.breast_cancer_predict(**TUMOUR) == {"label": "M", "prediction": 1}
        assert len(client.sentiment_predict(text=["good"])["predictions"]) == 1
        assert len(client.segmentation_predict(data=[ROW])["predicted_class"]) == 1
        assert client.breast_cancer_infer(items=[TUMOUR]) == [1]


def test_bentoml_client_can_send_a_picture(server: str, tmp_path: Any) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(photo())
    with bentoml.SyncHTTPClient(server) as client:
        assert client.image_predict(image_file=file)["Label"]
        assert len(client.image_infer(items=[file, file])) == 2


def test_bentoml_client_can_send_a_file_of_rows(server: str, tmp_path: Any) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(csv_file([ROW, OTHER_ROW]))
    with bentoml.SyncHTTPClient(server) as client:
        assert len(client.segmentation_uploadfile(file=file)["predicted_class"]) == 2


def test_same_input_gives_the_same_answer_alone_and_in_a_batch(client: httpx.Client) -> None:
    texts = [f"a film number {i} " + "and more " * i for i in range(20)]
    together = answer(client.post("/sentiment/infer", json={"items": texts}))
    for text, expected in zip(texts, together, strict=True):
        # The trailing space makes it a new text, which the cache does not hold.
        alone = answer(client.post("/sentiment/infer", json={"items": [text + " "]}))[0]
        assert alone == pytest.approx(expected, abs=1e-5)


def test_a_rows_answer_does_not_depend_on_its_neighbours(client: httpx.Client) -> None:
    def probability(*rows: dict[str, Any]) -> float:
        return float(answer(client.post("/segmentation/predict", json={"data": list(rows)}))["class_probability"][0])

    sparse = {"x5": "monday", "x91": None, "x12": None}
    alone = probability(sparse)
    extreme = {name: 1e6 for name in ROW if isinstance(ROW[name], float)}
    assert probability(sparse, *[extreme | {"x12": f"${i}00"} for i in range(50)]) == pytest.approx(alone, abs=1e-6)
