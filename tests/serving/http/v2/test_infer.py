"""Inference by the Open Inference Protocol over HTTP, on a real server."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.photos import photo
from tests.support.rows import OTHER_ROW, ROW, TUMOUR

HEADER = "Inference-Header-Content-Length"
TEXTS = ["a delight from start to finish", "dull, 退屈 and far too long"]
TEXT_INPUT = {"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}
SHARED_OUTPUT = {"name": "label", "parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 8}}
CLASSES = {"name": "probabilities", "parameters": {"classification": 1}}


def infer(client: httpx.Client, model: str, inputs: Sequence[Any], **rest: Any) -> httpx.Response:
    """Send tensors as JSON."""
    return client.post(f"/v2/models/{model}/infer", json={"inputs": inputs, **rest})


def outputs(response: httpx.Response) -> dict[str, Any]:
    """Return the data of each output in JSON."""
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def tensors(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as a tensor for each column."""
    found = []
    for name, value in rows[0].items():
        datatype = "BYTES" if isinstance(value, str) else "FP64"
        found.append({"name": name, "shape": [len(rows)], "datatype": datatype, "data": [row[name] for row in rows]})
    return found


def binary(document: dict[str, Any], *parts: bytes) -> dict[str, Any]:
    """Return the arguments of a request whose tensors are binary."""
    head = json.dumps(document).encode()
    return {"content": b"".join((head, *parts)), "headers": {HEADER: str(len(head))}}


def elements(*texts: bytes) -> bytes:
    """Return BYTES in binary form."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


class TestAnswers:
    def test_texts_are_answered_as_by_predict(self, client: httpx.Client) -> None:
        response = infer(client, "sentiment", [TEXT_INPUT], id="42")
        found = outputs(response)
        expected = client.post("/sentiment/predict", json={"text": TEXTS}).json()["predictions"]
        assert found["label"] == [ranking[0]["label"] for ranking in expected]
        assert found["score"] == [ranking[0]["score"] for ranking in expected]
        labels = client.get("/sentiment/info").json()["labels"]
        assert [
            dict(zip(labels, row, strict=True)) for row in np.reshape(found["probabilities"], (2, -1)).tolist()
        ] == [{entry["label"]: entry["score"] for entry in ranking} for ranking in expected]
        answer = response.json()
        version = response.headers["x-model-version"]
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("sentiment", version, "42")
        assert [output["shape"] for output in answer["outputs"]] == [[2], [2], [2, len(labels)]]

    def test_rows_are_answered_as_by_predict(self, client: httpx.Client) -> None:
        found = outputs(infer(client, "segmentation", tensors([ROW, OTHER_ROW])))
        expected = client.post("/segmentation/predict", json={"data": [ROW, OTHER_ROW]}).json()
        assert found == {name: expected[name] for name in ("class_probability", "predicted_class")}

    def test_a_tumour_is_answered_as_by_predict_by_columns_or_as_one_tensor(self, client: httpx.Client) -> None:
        expected = client.post("/breast_cancer/predict", json=TUMOUR).json()
        matrix = {"name": "input-0", "shape": [1, 6], "datatype": "FP64", "data": [list(TUMOUR.values())]}
        for sent in (tensors([TUMOUR]), [matrix]):
            found = outputs(infer(client, "breast_cancer", sent))
            assert {name: values[0] for name, values in found.items()} == expected

    def test_as_many_rows_as_there_may_be_are_answered_however_widely_they_are_written(
        self, client: httpx.Client
    ) -> None:
        described = {"shape": [10_000, 1], "datatype": "FP64", "data": [[1.2345678901234567e-100]] * 10_000}
        body = json.dumps({"inputs": [{"name": name, **described} for name in TUMOUR]}, indent=4).encode()
        assert client.post("/v2/models/breast_cancer/infer", content=body).status_code == 200

    def test_a_picture_is_answered_as_by_predict_in_each_way(self, client: httpx.Client) -> None:
        picture = photo()
        expected = client.post("/image/predict", files={"image_file": picture}).json()
        described = {"name": "image", "shape": [1], "datatype": "BYTES"}
        text = base64.b64encode(picture).decode()
        in_json = {**described, "parameters": {"content_type": "base64"}, "data": [text]}
        part = elements(picture)
        sizes = {**described, "parameters": {"binary_data_size": len(part)}}
        for arguments in (
            {"json": {"inputs": [in_json]}},
            binary({"inputs": [sizes]}, part),
            {"content": picture, "headers": {HEADER: "0"}},
        ):
            found = outputs(client.post("/v2/models/image/infer", **arguments))
            assert (found["label"], found["score"]) == ([expected["Label"]], [expected["Score"]])

    def test_a_version_is_named_in_the_path(self, client: httpx.Client) -> None:
        version = client.get("/v2/models/sentiment").json()["versions"][0]
        response = client.post(f"/v2/models/sentiment/versions/{version}/infer", json={"inputs": [TEXT_INPUT]})
        assert outputs(response) == outputs(infer(client, "sentiment", [TEXT_INPUT]))

    def test_known_answers_come_from_the_caches(self, client: httpx.Client) -> None:
        text = {**TEXT_INPUT, "shape": [1], "data": ["a text that only this test sends"]}
        states = [infer(client, "sentiment", [text]).headers["x-cache"] for _ in range(2)]
        states.append(infer(client, "sentiment", [text], id="another").headers["x-cache"])
        assert states == ["miss", "hit", "hit"]

    def test_a_length_of_json_is_a_part_of_what_is_known(self, client: httpx.Client) -> None:
        body = json.dumps({"inputs": [TEXT_INPUT]}).encode()
        assert client.post("/v2/models/sentiment/infer", content=body).status_code == 200
        response = client.post("/v2/models/sentiment/infer", content=body, headers={HEADER: "1"})
        assert response.status_code == 400


class TestBinary:
    def test_inputs_and_outputs_may_be_binary_or_not_each(self, client: httpx.Client) -> None:
        names = list(TUMOUR)
        rows = np.array([list(TUMOUR.values()), [0.01, 0.01, 1.0, 10.0, 15.0, 300.0]], dtype="<f8")
        inputs = []
        parts = []
        for place, name in enumerate(names):
            entry: dict[str, Any] = {"name": name, "shape": [2], "datatype": "FP64"}
            if place % 2:
                entry["data"] = rows[:, place].tolist()
            else:
                parts.append(rows[:, place].tobytes())
                entry["parameters"] = {"binary_data_size": 16}
            inputs.append(entry)
        asked = [{"name": "prediction", "parameters": {"binary_data": True}}, {"name": "label"}]
        response = client.post("/v2/models/breast_cancer/infer", **binary({"inputs": inputs, "outputs": asked}, *parts))
        assert response.headers["content-type"] == "application/octet-stream"
        size = int(response.headers[HEADER])
        prediction, label = json.loads(response.content[:size])["outputs"]
        assert (prediction["name"], prediction["parameters"]) == ("prediction", {"binary_data_size": 16})
        assert np.frombuffer(response.content[size:], "<i8").tolist() == [1, 0]
        assert label["data"] == ["M", "B"]

    def test_all_outputs_are_binary_where_a_parameter_says_so(self, client: httpx.Client) -> None:
        for _ in range(2):  # the second time from the response cache
            response = infer(client, "sentiment", [TEXT_INPUT], parameters={"binary_data_output": True})
            size = int(response.headers[HEADER])
            described = json.loads(response.content[:size])["outputs"]
            rest = response.content[size:]
            for output in described:
                assert "data" not in output
                length = output["parameters"]["binary_data_size"]
                part, rest = rest[:length], rest[length:]
                if output["name"] == "score":
                    score = np.frombuffer(part, "<f8").tolist()
            assert rest == b""
            assert score == outputs(infer(client, "sentiment", [TEXT_INPUT]))["score"]

    def test_an_output_overrides_the_parameter_of_the_request(self, client: httpx.Client) -> None:
        asked = [{"name": "label", "parameters": {"binary_data": False}}]
        response = infer(client, "sentiment", [TEXT_INPUT], outputs=asked, parameters={"binary_data_output": True})
        assert list(outputs(response)) == ["label"]

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_a_compressed_body_counts_its_json_as_it_is_unpacked(self, client: httpx.Client, coding: str) -> None:
        part = elements(*(text.encode() for text in TEXTS))
        entry = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(part)}}
        sent = binary({"inputs": [entry]}, part)
        packed = gzip.compress(sent["content"]) if coding == "gzip" else zlib.compress(sent["content"])
        headers = {**sent["headers"], "Content-Encoding": coding}
        response = client.post("/v2/models/sentiment/infer", content=packed, headers=headers)
        assert outputs(response) == outputs(infer(client, "sentiment", [TEXT_INPUT]))
        assert response.json()["outputs"][0]["shape"] == [2, 1]


def text_input(**changed: Any) -> dict[str, Any]:
    """Return one text as an input, changed."""
    return {**TEXT_INPUT, "shape": [1], "data": TEXTS[:1], **changed}


class TestRefusals:
    @pytest.mark.parametrize(
        ("document", "told"),
        [
            ({}, "missing required field `inputs`"),
            ({"inputs": []}, "inputs is empty"),
            ({"inputs": {}}, "Expected `array`, got `object`"),
            ({"inputs": [{**TEXT_INPUT, "shape": None}]}, "the shape of text cannot be: Expected `array`"),
            ({"inputs": [text_input(shape=[2])]}, "the data of text has 1 elements, its shape 2"),
            ({"inputs": [text_input(shape=[-1])]}, "the shape of text must be"),
            ({"inputs": [text_input(shape=[])]}, "the shape of text must be"),
            ({"inputs": [text_input(shape=[2**70])]}, "the shape of text must be"),
            ({"inputs": [text_input(shape=[1, 2])]}, "the shape of text must be [1] or [1, 1], not [1, 2]"),
            ({"inputs": [text_input(shape=[1, 1], data=[["a", "b"]])]}, "the data of text must have 1 rows of 1"),
            ({"inputs": [text_input(datatype="FP32", data=[1])]}, "text is BYTES and cannot be FP32"),
            ({"inputs": [text_input(datatype="FP16", data=[1])]}, "text is FP16, which JSON cannot have"),
            ({"inputs": [text_input(datatype="TEXT")]}, "the datatype of text is 'TEXT'; it must be one of BOOL"),
            ({"inputs": [text_input(data=[1])]}, "the data of text must be a list of BYTES"),
            ({"inputs": [text_input(data="a")]}, "the data of text must be a list of BYTES"),
            ({"inputs": [text_input(name="txt")]}, "the model has no input 'txt'; it has text"),
            ({"inputs": [text_input(), text_input()]}, "the input text is there twice"),
            ({"inputs": [text_input(shape=[0], data=[])]}, "the inputs have no rows"),
            ({"inputs": [text_input(parameters={"a": "b" * 2**14})]}, "of text must have at most 16,384 bytes"),
            ({"inputs": [text_input(parameters=[])]}, "the parameters of text cannot be: Expected `object"),
            ({"inputs": [text_input(data=None)]}, "the data of text must be a list of BYTES"),
            ({"inputs": [text_input(parameters={"binary_data_size": 1})]}, "binary_data_size of text must be a number"),
            ({"inputs": [text_input(parameters={"shared_memory_region": "a"})]}, "shared memory is not supported"),
            ({"inputs": [text_input()], "outputs": [SHARED_OUTPUT]}, "shared memory is not supported"),
            ({"inputs": [text_input()], "outputs": [CLASSES]}, "classification is not supported"),
            ({"inputs": [text_input()], "outputs": [{"name": "logits"}]}, "no output 'logits'; it has label, score"),
            (
                {"inputs": [text_input()], "outputs": [{"name": "label"}, {"name": "label"}]},
                "the output label is asked for twice",
            ),
            ({"inputs": [text_input()], "parameters": {"timeout": -1}}, "the parameter timeout must be a whole"),
            ({"inputs": [text_input()], "parameters": {"timeout": 10**400}}, "the parameter timeout must be a whole"),
            ({"inputs": [text_input()], "parameters": {"timeout": "1"}}, "the parameter timeout must be a whole"),
            ({"inputs": [text_input()], "parameters": {"priority": True}}, "the parameter priority must be a whole"),
        ],
    )
    def test_what_breaks_the_protocol_is_told(self, client: httpx.Client, document: Any, told: str) -> None:
        response = client.post("/v2/models/sentiment/infer", json=document)
        assert told in response.json()["error"]
        assert (response.status_code, response.headers["content-type"]) == (400, "application/json")

    @pytest.mark.parametrize(
        ("datatype", "number", "status"), [("INT8", 300, 400), ("UINT8", -1, 400), ("INT64", 2**53 + 1, 422)]
    )
    def test_a_null_does_not_change_which_numbers_a_datatype_has(
        self, client: httpx.Client, datatype: str, number: int, status: int
    ) -> None:
        for data in ([number], [number, None]):
            sent = {"name": "x91", "shape": [len(data)], "datatype": datatype, "data": data}
            assert infer(client, "segmentation", [sent]).status_code == status

    @pytest.mark.parametrize("body", [b"", b"[", b"1", b'{"inputs": [\xff]}', b"[" * 10_000])
    def test_what_is_no_json_is_told(self, client: httpx.Client, body: bytes) -> None:
        response = client.post("/v2/models/sentiment/infer", content=body)
        assert (response.status_code, "no request for inference" in response.json()["error"]) == (400, True)

    def test_a_value_that_does_not_fit_is_named_with_its_row(self, client: httpx.Client) -> None:
        response = infer(client, "sentiment", [{**TEXT_INPUT, "data": ["fine", ""]}])
        answer = response.json()
        assert response.status_code == 422
        assert answer["error"] == "text, row 1: String should have at least 1 character"
        assert answer["detail"][0]["loc"] == ["inputs", "text", 1]

    def test_a_picture_that_cannot_be_read_is_named_with_its_row(self, client: httpx.Client) -> None:
        part = elements(photo(), b"no picture")
        entry = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(part)}}
        response = client.post("/v2/models/image/infer", **binary({"inputs": [entry]}, part))
        assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["inputs", "image", 1])

    def test_more_rows_than_a_request_may_have_are_told(self, client: httpx.Client) -> None:
        response = infer(client, "sentiment", [{**TEXT_INPUT, "shape": [257], "data": ["a"] * 257}])
        told = "the inputs have 257 rows, at most 256 are allowed"
        assert (response.status_code, response.json()["error"]) == (422, told)

    @pytest.mark.parametrize(
        ("sent", "status"), [({"shape": [10**6]}, 422), ({"name": "txt"}, 400), ({"shape": [1, 10**6]}, 400)]
    )
    def test_what_the_model_does_not_take_is_told_before_its_elements_are_read(
        self, client: httpx.Client, sent: dict[str, Any], status: int
    ) -> None:
        response = infer(client, "sentiment", [text_input(data=["unfit", 1], **sent)])
        assert (response.status_code, "data" in response.json()["error"]) == (status, False)

    def test_a_column_that_is_not_read_has_one_value_a_row_too(self, client: httpx.Client) -> None:
        response = infer(client, "segmentation", [{"name": "x0", "shape": [9, 0], "datatype": "FP64", "data": []}])
        told = "the shape of x0 must be [9] or [9, 1], not [9, 0]"
        assert (response.status_code, response.json()["error"]) == (400, told)

    def test_an_error_does_not_repeat_a_long_name(self, client: httpx.Client) -> None:
        for sent in (text_input(name="n" * 10**6), text_input(datatype="n" * 10**6)):
            response = infer(client, "sentiment", [sent])
            assert (response.status_code, len(response.content) < 500) == (400, True)

    @pytest.mark.parametrize("length", ["-1", "x", "1.5", "", "1" * 100, "99999"])
    def test_a_length_of_json_that_cannot_be_is_told(self, client: httpx.Client, length: str) -> None:
        response = client.post("/v2/models/sentiment/infer", json={"inputs": [TEXT_INPUT]}, headers={HEADER: length})
        assert (response.status_code, HEADER in response.json()["error"]) == (400, True)

    @pytest.mark.parametrize(
        ("sizes", "told"),
        [
            ([4, 5], "the binary_data_size of area_se must be a number up to 4"),
            ([4, 3], "area_se has 3 bytes; FP32 of shape [1] takes 4"),
            ([8, 0], "area_worst has 8 bytes; FP32 of shape [1] takes 4"),
            ([4, True], "the binary_data_size of area_se must be a number"),
            ([4, -4], "the binary_data_size of area_se must be a number"),
            ([4], "the body has 4 bytes after the inputs"),
        ],
    )
    def test_sizes_that_do_not_add_up_are_told(self, client: httpx.Client, sizes: list[int], told: str) -> None:
        inputs = [
            {"name": name, "shape": [1], "datatype": "FP32", "parameters": {"binary_data_size": size}}
            for name, size in zip(("area_worst", "area_se"), sizes, strict=False)
        ]
        response = client.post("/v2/models/breast_cancer/infer", **binary({"inputs": inputs}, bytes(8)))
        assert told in response.json()["error"]
        assert response.status_code == 400

    def test_data_beside_a_size_is_refused(self, client: httpx.Client) -> None:
        part = elements(b"a")
        entry = {**text_input(), "parameters": {"binary_data_size": len(part)}}
        response = client.post("/v2/models/sentiment/infer", **binary({"inputs": [entry]}, part))
        assert response.json()["error"] == "text has both data and binary_data_size"

    @pytest.mark.parametrize("path", ["/v2/models/none/infer", "/v2/models/sentiment/versions/none/infer"])
    def test_a_model_or_version_that_is_not_there_is_404(self, client: httpx.Client, path: str) -> None:
        response = client.post(path, json={"inputs": [TEXT_INPUT]})
        assert (response.status_code, "none" in response.json()["error"]) == (404, True)

    def test_a_raw_body_is_for_models_of_one_input(self, client: httpx.Client) -> None:
        response = client.post("/v2/models/breast_cancer/infer", content=b"a", headers={HEADER: "0"})
        assert (response.status_code, "one input" in response.json()["error"]) == (400, True)
        response = client.post("/v2/models/sentiment/infer", content=TEXTS[0].encode(), headers={HEADER: "0"})
        assert outputs(response) == outputs(infer(client, "sentiment", [text_input()]))

    def test_a_timeout_that_has_passed_is_504(self, client: httpx.Client) -> None:
        texts = {**TEXT_INPUT, "shape": [64], "data": [f"text {number} that takes long" * 50 for number in range(64)]}
        response = infer(client, "sentiment", [texts], parameters={"timeout": 1})
        told = "not answered within the timeout of 1 µs"
        assert (response.status_code, response.json()["error"]) == (504, told)
