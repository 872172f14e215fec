"""tritonclient's four clients, on a server that asks for a key, has two versions and lets models be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.conftest import Server
from tests.clients.examples import TUMOURS, columns, plain
from tests.clients.triton import KINDS, Triton

MODEL = "breast_cancer"
TUMOUR = columns(TUMOURS[:1])
LOAD = f"/v2/repository/models/{MODEL}/load"


@pytest.fixture(scope="module", params=KINDS)
def triton(request: pytest.FixtureRequest, guarded: Server) -> Iterator[Triton]:
    client = Triton(request.param, guarded)
    yield client
    client.close()


def label(triton: Triton, key: dict[str, str], version: str = "") -> list[str]:
    """Return the label of the tumour by a version of the model."""
    found: list[str] = plain(triton.infer(MODEL, TUMOUR, headers=key, model_version=version).as_numpy("label"))
    return found


def states(triton: Triton, key: dict[str, str]) -> dict[str, str]:
    """Return the state of each version of the model."""
    told = triton.told("get_model_repository_index", headers=key)
    return {entry["version"]: entry["state"] for entry in (told["models"] if triton.is_grpc else told)}


class TestKeys:
    def test_a_request_without_a_key_is_refused(self, triton: Triton) -> None:
        for headers in (None, {"x-api-key": "wrong"}, {"authorization": "Bearer wrong"}):
            with pytest.raises(InferenceServerException) as caught:
                triton.infer(MODEL, TUMOUR, headers=headers)
            assert caught.value.status() == ("401", "StatusCode.UNAUTHENTICATED")[triton.is_grpc]

    def test_a_key_may_stand_in_either_header(self, triton: Triton, key: dict[str, str]) -> None:
        bearer = {"authorization": f"Bearer {key['x-api-key']}"}
        assert label(triton, key) == label(triton, bearer) == ["M"]

    def test_a_plugin_of_the_client_may_add_it(self, triton: Triton, key: dict[str, str]) -> None:
        class Keys(triton.module.InferenceServerClientPlugin):  # type: ignore[misc, name-defined]
            def __call__(self, request: Any) -> None:
                request.headers |= key

        triton.client.register_plugin(Keys())
        try:
            assert plain(triton.infer(MODEL, TUMOUR).as_numpy("label")) == ["M"]
        finally:
            triton.client.unregister_plugin()

    def test_health_needs_no_key(self, triton: Triton) -> None:
        assert triton.call("is_server_live") is True
        assert triton.call("is_server_ready") is True
        assert triton.call("is_model_ready", MODEL) is True
        assert triton.told("get_server_metadata")["name"] == "tiffin"

    @pytest.mark.parametrize("method", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
    def test_what_tells_of_models_needs_one(self, triton: Triton, key: dict[str, str], method: str) -> None:
        with pytest.raises(InferenceServerException):
            triton.call(method, MODEL)
        assert triton.told(method, MODEL, headers=key)


class TestVersions:
    def test_each_answers_for_itself(self, triton: Triton, key: dict[str, str]) -> None:
        versions = triton.call("get_model_metadata", MODEL, headers=key, **triton.as_json)["versions"]
        (newest,) = {*versions} - {"opposite"}
        assert label(triton, key, newest) == label(triton, key) == ["M"]
        assert label(triton, key, "opposite") == ["B"]

    def test_each_is_ready_by_itself(self, triton: Triton) -> None:
        assert triton.call("is_model_ready", MODEL, "opposite") is True

    def test_each_has_statistics_of_its_own(self, triton: Triton, key: dict[str, str]) -> None:
        told = triton.told("get_inference_statistics", MODEL, "opposite", headers=key)["model_stats"]
        assert [entry["version"] for entry in told] == ["opposite"]


class TestRepository:
    @pytest.fixture(autouse=True)
    def _loaded_afterwards(self, guarded: Server, key: dict[str, str]) -> Iterator[None]:
        """Load both versions again."""
        headers = dict(key)
        yield
        with httpx.Client(base_url=guarded.url, headers=headers, timeout=60) as client:
            assert client.post(LOAD).status_code == 200
            assert client.post(LOAD, json={"parameters": {"version": "opposite"}}).status_code == 200

    def test_a_model_is_unloaded_and_loaded_again(self, triton: Triton, key: dict[str, str]) -> None:
        assert set(states(triton, key).values()) == {"READY"}
        triton.call("unload_model", MODEL, headers=key)
        assert set(states(triton, key).values()) == {"UNAVAILABLE"}
        assert triton.call("is_model_ready", MODEL) is False
        with pytest.raises(InferenceServerException) as caught:
            triton.infer(MODEL, TUMOUR, headers=key)
        assert caught.value.status() == ("404", "StatusCode.NOT_FOUND")[triton.is_grpc]
        triton.call("load_model", MODEL, headers=key)
        assert sorted(states(triton, key).values()) == ["READY", "UNAVAILABLE"]
        assert label(triton, key) == ["M"]

    def test_a_configuration_or_files_of_the_clients_are_refused(self, triton: Triton, key: dict[str, str]) -> None:
        for options in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"a"}}):
            with pytest.raises(InferenceServerException) as caught:
                triton.call("load_model", MODEL, headers=key, **options)
            assert caught.value.status() == ("400", "StatusCode.INVALID_ARGUMENT")[triton.is_grpc]

    def test_a_model_that_is_not_served_cannot_be_loaded(self, triton: Triton, key: dict[str, str]) -> None:
        with pytest.raises(InferenceServerException) as caught:
            triton.call("load_model", "sentiment", headers=key)
        assert caught.value.status() == ("404", "StatusCode.NOT_FOUND")[triton.is_grpc]
