"""tritonclient's four clients: every call that they share, for every model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.conftest import Server
from tests.clients.examples import (
    CUSTOMERS,
    EXAMPLES,
    READ,
    TEXTS,
    TUMOURS,
    Example,
    columns,
    objects,
    predict_customers,
)
from tests.clients.triton import KINDS, Triton, values

MODELS = sorted(example.model for example in EXAMPLES)
SENTIMENT = {"text": objects(TEXTS)}
# Statuses of HTTP and of gRPC.
ABSENT, LATE = ("404", "NOT_FOUND"), ("504", "DEADLINE_EXCEEDED")
LARGE = ("413", "RESOURCE_EXHAUSTED")
BROKEN, UNFIT = ("400", "INVALID_ARGUMENT"), ("422", "INVALID_ARGUMENT")
OUTPUTS = {
    "sentiment": ["label", "score", "probabilities"],
    "image": ["label", "score", "probabilities"],
    "breast_cancer": ["label", "prediction"],
    "segmentation": ["class_probability", "predicted_class"],
}


@pytest.fixture(scope="module", params=KINDS)
def triton(request: pytest.FixtureRequest, server: Server) -> Iterator[Triton]:
    client = Triton(request.param, server)
    yield client
    client.close()


@pytest.fixture(params=EXAMPLES, ids=lambda example: example.model)
def example(request: pytest.FixtureRequest) -> Example:
    found: Example = request.param
    return found


class TestInference:
    def test_its_defaults_give_the_answers_of_predict(
        self, triton: Triton, predict: httpx.Client, example: Example
    ) -> None:
        expected = example.predict(predict)
        result = triton.infer(example.model, example.inputs)
        assert values(result, list(expected)) == expected
        described = triton.describe(result)
        assert described["model_name"] == example.model
        assert [output["name"] for output in described["outputs"]] == OUTPUTS[example.model]

    def test_inputs_of_one_column_are_answered_in_one_column(self, triton: Triton, example: Example) -> None:
        square = {name: array.reshape(-1, 1) for name, array in example.inputs.items()}
        name = OUTPUTS[example.model][0]
        found = triton.infer(example.model, square).as_numpy(name)
        assert found.shape == (len(found), 1)
        assert np.array_equal(found[:, 0], triton.infer(example.model, example.inputs).as_numpy(name))

    def test_only_the_outputs_that_are_asked_for_come_in_their_order(self, triton: Triton, example: Example) -> None:
        names = OUTPUTS[example.model][::-1][:2]
        result = triton.infer(example.model, example.inputs, outputs=triton.outputs(names))
        assert [output["name"] for output in triton.describe(result)["outputs"]] == names
        assert all(result.as_numpy(name) is None for name in OUTPUTS[example.model] if name not in names)

    def test_the_version_that_answered_is_told_and_can_be_asked_for(self, triton: Triton, example: Example) -> None:
        (version,) = triton.call("get_model_metadata", example.model, **triton.as_json)["versions"]
        result = triton.infer(example.model, example.inputs, model_version=version)
        assert triton.describe(result)["model_version"] == version

    def test_the_id_of_a_request_comes_back(self, triton: Triton) -> None:
        result = triton.infer("sentiment", SENTIMENT, request_id="a request, 42")
        assert triton.describe(result)["id"] == "a request, 42"

    def test_parameters_are_taken_whatever_their_type(self, triton: Triton) -> None:
        parameters = {"text": "a", "whole": 1, "true": True}
        result = triton.infer("sentiment", SENTIMENT, priority=2, timeout=60_000_000, parameters=parameters)
        assert len(result.as_numpy("label")) == len(TEXTS)

    def test_what_is_missing_may_be_nan_or_empty_or_left_out(self, triton: Triton, predict: httpx.Client) -> None:
        rows = [row | {"x5": None, "x31": None, "x53": None, "x91": None} for row in CUSTOMERS[:2]]
        expected = predict_customers(predict, rows)
        inputs = columns([{name: row[name] for name in READ} for row in rows])
        empty = inputs | {"x5": objects(["", ""]), "x31": objects(["", ""])}
        left_out = {name: array for name, array in inputs.items() if name not in ("x5", "x31", "x53", "x91")}
        for sent in (empty, left_out):
            assert values(triton.infer("segmentation", sent), list(expected)) == expected

    def test_numbers_may_be_of_other_datatypes_that_hold_them(self, triton: Triton) -> None:
        row = [1.0, 1.0, 8.0, 153.0, 17.0, 2019.0]
        names = list(TUMOURS[0])
        found = []
        for dtype in (np.float64, np.float32, np.float16, np.int64, np.int32, np.uint16):
            arrays = {name: np.array([value], dtype) for name, value in zip(names, row, strict=True)}
            found.append(triton.infer("breast_cancer", arrays).as_numpy("prediction").tolist())
        assert found == [found[0]] * 6

    def test_a_tensor_of_all_columns_is_taken(self, triton: Triton) -> None:
        matrix = {"input-0": np.array([list(row.values()) for row in TUMOURS])}
        expected = triton.infer("breast_cancer", columns(TUMOURS)).as_numpy("label")
        assert np.array_equal(triton.infer("breast_cancer", matrix).as_numpy("label"), expected)


class TestServer:
    def test_it_is_live_and_ready(self, triton: Triton) -> None:
        assert triton.call("is_server_live") is True
        assert triton.call("is_server_ready") is True

    def test_models_are_ready_but_those_that_are_not_there(self, triton: Triton) -> None:
        assert all(triton.call("is_model_ready", model) is True for model in MODELS)
        if triton.is_grpc:
            assert refusal(triton, "is_model_ready", "none")[0] == "NOT_FOUND"
        else:
            assert triton.call("is_model_ready", "none") is False

    def test_metadata_of_the_server(self, triton: Triton) -> None:
        told = triton.told("get_server_metadata")
        assert told["name"] == "tiffin"
        assert "statistics" in told["extensions"]

    @pytest.mark.parametrize("model", MODELS)
    def test_metadata_is_what_info_says(self, triton: Triton, predict: httpx.Client, model: str) -> None:
        told = triton.told("get_model_metadata", model)
        info = predict.get(f"/{model}/info").json()
        assert (told["name"], told["platform"]) == (model, "onnxruntime_onnx")
        for kind in ("inputs", "outputs"):
            assert [(entry["name"], entry["datatype"]) for entry in told[kind]] == [
                (column["name"], column["datatype"]) for column in info[kind]
            ]

    @pytest.mark.parametrize("model", MODELS)
    def test_configuration_has_the_columns_of_the_metadata(self, triton: Triton, model: str) -> None:
        told = triton.told("get_model_config", model)
        config = told.get("config", told)
        assert config["max_batch_size"] > 0
        assert [entry["name"] for entry in config["output"]] == OUTPUTS[model]

    def test_statistics_count_what_was_answered(self, triton: Triton) -> None:
        def count() -> int:
            (entry,) = triton.told("get_inference_statistics", "breast_cancer")["model_stats"]
            found: int = entry.get("inference_stats", {}).get("success", {}).get("count", 0)
            return found

        before = count()
        for _ in range(3):
            triton.infer("breast_cancer", columns(TUMOURS))
        assert count() == before + 3
        everything = triton.told("get_inference_statistics")["model_stats"]
        assert sorted(entry["name"] for entry in everything) == MODELS

    def test_the_repository_lists_all_models(self, triton: Triton) -> None:
        told = triton.told("get_model_repository_index")
        entries = told["models"] if triton.is_grpc else told
        # A store that is in use has versions of former checkouts, too.
        older = [entry for entry in entries if entry["state"] != "READY"]
        loaded = [entry for entry in entries if entry not in older]
        assert {entry["name"]: entry["state"] for entry in loaded} == dict.fromkeys(MODELS, "READY")
        assert len(loaded) == len(MODELS)
        assert {entry["state"] for entry in older} <= {"UNAVAILABLE"}


def refusal(triton: Triton, method: str, *arguments: Any, **named: Any) -> tuple[str, str]:
    """Return the status and the message with which a call is refused."""
    with pytest.raises(InferenceServerException) as caught:
        triton.call(method, *arguments, **named)
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


class TestRefusals:
    @pytest.mark.parametrize(
        ("model", "arrays", "statuses", "told"),
        [
            ("none", SENTIMENT, ABSENT, "no model none"),
            ("sentiment", {"txt": objects(["a"])}, BROKEN, "no input 'txt'; it has text"),
            ("sentiment", {"text": np.zeros(1)}, BROKEN, "is BYTES and cannot be FP64"),
            ("sentiment", {"text": objects(["a", "b"]).reshape(1, 2)}, BROKEN, "the shape of text must be"),
            ("sentiment", {"text": objects([])}, BROKEN, "the inputs have no rows"),
            ("sentiment", {"text": objects(["a"] * 257)}, UNFIT, "at most 256 are allowed"),
            ("sentiment", {"text": objects(["a", ""])}, UNFIT, "text, row 1: String should"),
            ("image", {"image": objects([b"none"])}, UNFIT, "image, row 0"),
            ("breast_cancer", columns([TUMOURS[0] | {"area_se": -1.0}]), UNFIT, "area_se, row 0"),
            ("breast_cancer", {"area_se": np.zeros(1)}, UNFIT, "the column concavity_mean is missing"),
            ("segmentation", {"x12": objects(["much"])}, UNFIT, "x12, row 0"),
            ("segmentation", {"x53": np.zeros(1), "x58": np.zeros(2)}, BROKEN, "x53 has 1 rows"),
        ],
    )
    def test_the_fault_is_named(
        self, triton: Triton, model: str, arrays: Any, statuses: tuple[str, str], told: str
    ) -> None:
        status, message = refusal(triton, "infer", model, triton.inputs(arrays))
        assert status == statuses[triton.is_grpc]
        assert told in message

    def test_a_version_that_is_not_there_is_named(self, triton: Triton) -> None:
        status, message = refusal(triton, "infer", "sentiment", triton.inputs(SENTIMENT), model_version="9")
        assert status == ABSENT[triton.is_grpc]
        assert "no version 9 of sentiment" in message

    def test_an_output_that_is_not_there_is_named(self, triton: Triton) -> None:
        inputs, outputs = triton.inputs(SENTIMENT), triton.outputs(["logits"])
        status, message = refusal(triton, "infer", "sentiment", inputs, outputs=outputs)
        assert status == BROKEN[triton.is_grpc]
        assert "no output 'logits'; it has label" in message

    def test_too_large_a_picture_is_refused_and_the_connection_goes_on(self, triton: Triton) -> None:
        picture = triton.inputs({"image": objects([bytes(66 * 2**20)])})
        assert refusal(triton, "infer", "image", picture)[0] == LARGE[triton.is_grpc]
        assert triton.call("is_server_live") is True

    def test_a_timeout_that_passes_is_told(self, triton: Triton) -> None:
        texts = objects([f"text {number} that takes long, as {triton.kind} has it " * 50 for number in range(64)])
        status, _ = refusal(triton, "infer", "sentiment", triton.inputs({"text": texts}), timeout=1)
        assert status == LATE[triton.is_grpc]

    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            ("get_system_shared_memory_status", ()),
            ("register_system_shared_memory", ("region", "/region", 8)),
            ("unregister_system_shared_memory", ()),
            ("get_cuda_shared_memory_status", ()),
            ("register_cuda_shared_memory", ("region", b"aGFuZGxl", 0, 8)),
            ("unregister_cuda_shared_memory", ()),
            ("get_trace_settings", ()),
            ("update_trace_settings", (None, {"trace_level": ["TIMESTAMPS"]})),
            ("get_log_settings", ()),
            ("update_log_settings", ({"log_info": True},)),
        ],
    )
    def test_extensions_that_are_not_there_are_refused(
        self, triton: Triton, method: str, arguments: tuple[Any, ...]
    ) -> None:
        status, message = refusal(triton, method, *arguments)
        assert status == ("404", "UNIMPLEMENTED")[triton.is_grpc]
        assert message

    def test_tensors_in_shared_memory_are_refused(self, triton: Triton) -> None:
        (shared,) = triton.inputs(SENTIMENT)
        shared.set_shared_memory("region", 8)
        assert refusal(triton, "infer", "sentiment", [shared])[0] == BROKEN[triton.is_grpc]
        (output,) = triton.outputs(["label"])
        output.set_shared_memory("region", 8)
        status, message = refusal(triton, "infer", "sentiment", triton.inputs(SENTIMENT), outputs=[output])
        assert status == BROKEN[triton.is_grpc]
        assert "shared memory is not supported" in message

    def test_classification_is_refused(self, triton: Triton) -> None:
        outputs = triton.outputs(["probabilities"], class_count=1)
        status, message = refusal(triton, "infer", "sentiment", triton.inputs(SENTIMENT), outputs=outputs)
        assert status == BROKEN[triton.is_grpc]
        assert "classification is not supported" in message

    @pytest.mark.parametrize("method", ["load_model", "unload_model"])
    def test_loading_is_off_by_default(self, triton: Triton, method: str) -> None:
        status, message = refusal(triton, method, "sentiment")
        assert status == BROKEN[triton.is_grpc]
        assert "TIFFIN_MODEL_CONTROL" in message
