"""Inference by the Open Inference Protocol over gRPC, on a real server."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from grpc import StatusCode

from tests.support.grpc_clients import Client, InferRequest, outputs, request_for
from tests.support.photos import photo
from tests.support.rows import OTHER_ROW, ROW, TUMOUR

pytestmark = pytest.mark.anyio
TEXTS = ["a delight from start to finish", "dull, 退屈 and far too long"]
TUMOUR_COLUMNS = {name: np.array([value]) for name, value in TUMOUR.items()}


def columns(*rows: dict[str, Any]) -> dict[str, Any]:
    """Return rows as columns; what is no text as FP64."""
    return {
        name: [row[name] or "" for row in rows]
        if isinstance(value, str)
        else np.array([row[name] for row in rows], float)
        for name, value in rows[0].items()
    }


@pytest.mark.parametrize("raw", [False, True])
class TestAnswers:
    async def test_texts_are_answered_as_over_http(self, client: Client, http: httpx.Client, raw: bool) -> None:
        response = await client.infer(request_for("sentiment", {"text": TEXTS}, raw=raw, id="42"))
        body = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}]}
        expected = http.post("/v2/models/sentiment/infer", json=body).json()
        assert outputs(response) == {output["name"]: output["data"] for output in expected["outputs"]}
        assert [list(output.shape) for output in response.outputs] == [[2], [2], [2, 2]]
        named = (response.model_name, response.model_version, response.id)
        assert named == ("sentiment", expected["model_version"], "42")

    async def test_the_answer_is_raw_where_the_request_was(self, client: Client, raw: bool) -> None:
        response = await client.infer(request_for("breast_cancer", TUMOUR_COLUMNS, raw=raw))
        assert len(response.raw_output_contents) == 2 * raw
        assert all(output.HasField("contents") is not raw for output in response.outputs)

    async def test_rows_are_answered_as_over_http(self, client: Client, http: httpx.Client, raw: bool) -> None:
        response = await client.infer(request_for("segmentation", columns(ROW, OTHER_ROW), raw=raw))
        expected = http.post("/segmentation/predict", json={"data": [ROW, OTHER_ROW]}).json()
        assert outputs(response) == {name: expected[name] for name in ("class_probability", "predicted_class")}

    async def test_a_matrix_of_all_columns_is_taken(self, client: Client, raw: bool) -> None:
        matrix = np.array([list(TUMOUR.values())] * 3)
        response = await client.infer(request_for("breast_cancer", {"input-0": matrix}, raw=raw))
        assert outputs(response) == {"label": ["M"] * 3, "prediction": [1] * 3}

    async def test_pictures_are_answered_as_over_http(self, client: Client, http: httpx.Client, raw: bool) -> None:
        picture = photo("PNG", (900, 900))
        found = outputs(await client.infer(request_for("image", {"image": [picture, picture]}, raw=raw)))
        expected = http.post("/image/predict", files={"image_file": picture}).json()
        assert (found["label"], found["score"]) == ([expected["Label"]] * 2, [expected["Score"]] * 2)


class TestRequests:
    async def test_a_version_and_outputs_are_chosen(self, client: Client) -> None:
        version = (await client.call("ModelMetadata", {"name": "sentiment"})).versions[0]
        request = request_for("sentiment", {"text": TEXTS}, model_version=version)
        request.outputs.add(name="score")
        response = await client.infer(request)
        assert (response.model_version, [output.name for output in response.outputs]) == (version, ["score"])

    async def test_the_shape_of_answers_is_that_of_the_request(self, client: Client) -> None:
        request = request_for("sentiment", {"text": TEXTS})
        request.inputs[0].shape.append(1)
        assert [list(output.shape) for output in (await client.infer(request)).outputs] == [[2, 1], [2, 1], [2, 2]]

    @pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
    async def test_numbers_of_other_datatypes_are_taken(self, client: Client, dtype: str) -> None:
        whole = {name: np.array([round(value) + 1], dtype) for name, value in TUMOUR.items()}
        for raw in (False, True):
            assert outputs(await client.infer(request_for("breast_cancer", whole, raw=raw)))["label"] == ["M"]

    async def test_metadata_tells_what_caches_did(self, client: Client) -> None:
        request = request_for("sentiment", {"text": ["a text that only this test of gRPC sends"]})
        states = []
        for sent in ((), (), (("cache-control", "no-cache"),)):
            call = client.infer(request, metadata=sent)
            await call
            told = dict(await call.trailing_metadata())
            states.append((told["x-cache"], "age" in told))
        assert states == [("miss", False), ("hit", True), ("miss", False)]

    async def test_what_is_not_to_be_stored_is_not(self, client: Client) -> None:
        request = request_for("sentiment", {"text": ["a text that no cache is to store"]})
        for _ in range(2):
            call = client.infer(request, metadata=(("cache-control", "no-store"),))
            await call
            assert dict(await call.trailing_metadata())["x-cache"] == "miss"

    @pytest.mark.parametrize("given", ["abc-1", None])
    async def test_a_request_id_comes_back(self, client: Client, given: str | None) -> None:
        call = client.call("ServerLive", metadata=(("x-request-id", given),) if given else ())
        await call
        found = dict(await call.trailing_metadata())["x-request-id"]
        assert found == given or (given is None and len(found) == 32)

    async def test_the_version_that_answers_is_told(self, client: Client) -> None:
        call = client.infer(request_for("sentiment", {"text": TEXTS}))
        response = await call
        assert dict(await call.trailing_metadata())["x-model-version"] == response.model_version

    @pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
    async def test_compressed_messages_are_unpacked(self, client: Client, compress: Any) -> None:
        message = request_for("sentiment", {"text": TEXTS * 100}).SerializeToString()
        response = await client.bytes("ModelInfer", compress(message))
        assert len(response.outputs[0].contents.bytes_contents) == 200

    async def test_what_grpc_itself_compresses_is_unpacked(self, client: Client) -> None:
        request = request_for("sentiment", {"text": TEXTS * 100})
        for coding in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            response = await client.infer(request, compression=coding)
            assert len(response.outputs[0].contents.bytes_contents) == 200

    async def test_a_stream_is_answered_in_order_and_goes_on_after_an_error(self, client: Client) -> None:
        call = client.stream()
        asked = [request_for(name, {"text": [text]}) for name in ("sentiment", "none") for text in TEXTS]
        answers = []
        for request in asked:
            await call.write(request)
            answers.append(await call.read())
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        labels = [outputs(answer.infer_response)["label"] for answer in answers[:2]]
        assert labels == [["POSITIVE"], ["NEGATIVE"]]
        assert [answer.error_message for answer in answers[2:]] == ["no model none"] * 2
        assert await call.code() is StatusCode.OK


class TestBatches:
    async def test_thousands_at_a_time_get_their_own_rows(self, client: Client) -> None:
        """Each call has rows whose answers differ, and gets exactly these, whatever batches they shared."""
        rows = np.array([*TUMOUR.values()]) * np.random.default_rng(1).uniform(0.2, 1.2, size=(2_000, 6))
        no_store = (("cache-control", "no-store"),)

        async def ask(matrix: Any) -> Any:
            return await client.infer(request_for("breast_cancer", {"all": matrix}, raw=True), metadata=no_store)

        together = outputs(await ask(rows))
        limit = asyncio.Semaphore(200)

        async def own(place: int) -> bool:
            size = 1 + place % 3
            async with limit:
                found = outputs(await ask(rows[place : place + size]))
            return bool(found["prediction"] == together["prediction"][place : place + size])

        assert 0 < sum(together["prediction"]) < len(rows)
        assert all(await asyncio.gather(*map(own, range(len(rows)))))

    async def test_a_burst_of_calls_is_answered(self, client: Client) -> None:
        message = request_for("breast_cancer", {"all": np.array([[*TUMOUR.values()]])}, raw=True).SerializeToString()
        answers = await asyncio.gather(*(client.bytes("ModelInfer", message) for _ in range(1_000)))
        assert all(outputs(answer)["label"] == ["M"] for answer in answers)


def changed(**fields: Any) -> bytes:
    """Return a request for one text with fields of its input changed."""
    request = request_for("sentiment", {"text": ["fine"]})
    for name, value in fields.items():
        if name == "shape":
            request.inputs[0].shape[:] = value
        else:
            setattr(request.inputs[0], name, value)
    return bytes(request.SerializeToString())


def numbers(datatype: str, field: str, values: list[Any], shape: list[int]) -> bytes:
    """Return a request with a numeric input."""
    request = InferRequest(model_name="breast_cancer")
    entry = request.inputs.add(name="all", datatype=datatype, shape=shape)
    getattr(entry.contents, field).extend(values)
    return bytes(request.SerializeToString())


def both() -> bytes:
    """Return a request with contents beside raw contents."""
    request = request_for("sentiment", {"text": ["fine"]})
    request.raw_input_contents.append(b"\4\0\0\0fine")
    return bytes(request.SerializeToString())


def raw(*contents: bytes, shape: tuple[int, ...] = (1,), model: str = "sentiment") -> bytes:
    """Return a request for a text with raw contents."""
    request = InferRequest(model_name=model, raw_input_contents=contents)
    request.inputs.add(name="text", datatype="BYTES", shape=shape)
    return bytes(request.SerializeToString())


class TestRefusals:
    @pytest.mark.parametrize(
        ("message", "told"),
        [
            (InferRequest(model_name="sentiment").SerializeToString(), "inputs is empty"),
            (changed(shape=[2]), "text has 1 elements in bytes_contents, its shape 2"),
            (changed(shape=[-1]), "the shape of text must be"),
            (changed(shape=[]), "the shape of text must be"),
            (changed(shape=[1, 2**62]), "the shape of text must be [1] or [1, 1], not [1, 4611686018427387904]"),
            (changed(datatype="FP32"), "text is FP32: its elements must be in fp32_contents, not in bytes_contents"),
            (changed(datatype="FP16"), "text is FP16, which has no field in contents"),
            (changed(datatype="TEXT"), "the datatype of text is 'TEXT'; it must be one of BOOL"),
            (changed(name="txt"), "the model has no input 'txt'; it has text"),
            (numbers("INT8", "int_contents", [128] * 6, [1, 6]), "int_contents of all has a number that INT8 does not"),
            (numbers("FP64", "fp64_contents", [1.0] * 5, [1, 6]), "all has 5 elements in fp64_contents, its shape 6"),
            (both(), "text has contents beside raw_input_contents"),
            (raw(b"", b""), "raw_input_contents has 2 entries for 1 inputs"),
            (raw(b"\4\0\0\0fin"), "text ends before its element 0 does"),
            (raw(b"\4\0\0\0fine", shape=(10**9,)), "the inputs have 1,000,000,000 rows, at most 256 are allowed"),
            (raw(b"\4\0\0\0fine", shape=(1, 10**9)), "the shape of text must be [1] or [1, 1], not [1, 1000000000]"),
            (raw(b"\xff\xff\xff\xff"), "text ends before its element 0 does"),
            (raw(b"\0\0\0\0"), "text, row 0: String should have at least 1 character"),
            (raw(b"\1\0\0\0\xff"), "text, row 0: Input should be text in UTF-8"),
        ],
        ids=range(19),
    )
    async def test_what_breaks_the_protocol_is_told(self, client: Client, message: bytes, told: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.INVALID_ARGUMENT.name) as caught:
            await client.bytes("ModelInfer", message)
        assert told in caught.value.details()

    @pytest.mark.parametrize(
        "parameters", [{"timeout": "1"}, {"timeout": -1}, {"priority": "high"}, {"priority": True}]
    )
    async def test_parameters_that_cannot_be_are_told(self, client: Client, parameters: dict[str, Any]) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.INVALID_ARGUMENT.name) as caught:
            await client.infer(request_for("sentiment", {"text": TEXTS}, parameters=parameters))
        assert f"the parameter {next(iter(parameters))} must be" in caught.value.details()

    async def test_all_five_kinds_of_parameters_are_taken(self, client: Client) -> None:
        request = request_for("sentiment", {"text": TEXTS}, parameters={"text": "t", "flag": True, "whole": 1})
        request.parameters["double"].double_param = 0.5
        request.parameters["priority"].uint64_param = 2
        request.parameters["none"].SetInParent()
        assert len(outputs(await client.infer(request))["label"]) == 2

    @pytest.mark.parametrize(("model", "version"), [("none", ""), ("sentiment", "none")])
    async def test_what_is_not_there_is_not_found(self, client: Client, model: str, version: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.NOT_FOUND.name):
            await client.infer(request_for(model, {"text": TEXTS}, model_version=version))
        for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
            with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.NOT_FOUND.name):
                await client.call(method, {"name": model, "version": version})

    async def test_a_timeout_that_passes_is_told(self, client: Client) -> None:
        request = request_for("breast_cancer", {"all": np.ones((1, 6))}, parameters={"timeout": 1})
        with pytest.raises(grpc.aio.AioRpcError, match=StatusCode.DEADLINE_EXCEEDED.name) as caught:
            await client.infer(request, metadata=(("cache-control", "no-store"),))
        assert "not answered within the timeout of 1 µs" in caught.value.details()
