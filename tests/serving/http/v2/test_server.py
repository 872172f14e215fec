"""What the Open Inference Protocol tells of the server and its models, over HTTP."""

from __future__ import annotations

import httpx
import pytest

import models

MODELS = models.names()


def test_the_server_tells_its_name_and_extensions(client: httpx.Client) -> None:
    told = client.get("/v2").json()
    assert told["name"] == "tiffin"
    assert told["version"] == client.get("/docs.json").json()["info"]["version"]
    assert told["extensions"] == [
        "binary_tensor_data",
        "parameters",
        "model_repository",
        "model_configuration",
        "statistics",
    ]


def test_health_is_told_as_clients_read_it(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for name in MODELS:
        assert client.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_tells_its_versions_and_columns(client: httpx.Client, name: str) -> None:
    told = client.get(f"/v2/models/{name}").json()
    info = client.get(f"/{name}/info").json()
    assert (told["name"], told["versions"], told["platform"]) == (name, info["versions"], "onnxruntime_onnx")
    for kind in ("inputs", "outputs"):
        assert told[kind] == [{key: column[key] for key in ("name", "datatype", "shape")} for column in info[kind]]
    assert client.get(f"/v2/models/{name}/versions/{told['versions'][0]}").json() == told


@pytest.mark.parametrize("name", MODELS)
def test_a_models_configuration_has_dimensions_without_that_of_the_rows(client: httpx.Client, name: str) -> None:
    config = client.get(f"/v2/models/{name}/config").json()
    told = client.get(f"/v2/models/{name}").json()
    assert config["max_batch_size"] == models.find(name).max_items
    for configured, kind in ((config["input"], "inputs"), (config["output"], "outputs")):
        assert [[-1, *entry["dims"]] for entry in configured] == [entry["shape"] for entry in told[kind]]
        datatypes = [entry["data_type"].replace("STRING", "BYTES") for entry in configured]
        assert datatypes == [f"TYPE_{entry['datatype']}" for entry in told[kind]]


def test_statistics_count_what_was_answered_computed_and_known(client: httpx.Client) -> None:
    def stats() -> dict[str, int]:
        (found,) = client.get("/v2/models/sentiment/stats").json()["model_stats"]
        kinds = {
            f"{kind}_{key}": value for kind, entry in found["inference_stats"].items() for key, value in entry.items()
        }
        return {"inference_count": found["inference_count"], "execution_count": found["execution_count"], **kinds}

    text = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["statistics one", "statistics two"]}
    body = {"inputs": [text]}
    before = stats()
    assert client.post("/v2/models/sentiment/infer", json=body).status_code == 200
    assert client.post("/v2/models/sentiment/infer", json={**body, "id": "again"}).status_code == 200
    assert client.post("/v2/models/sentiment/infer", json={}).status_code == 400
    after = stats()
    grown = {name: after[name] - before[name] for name in after}
    assert grown["inference_count"] == 2
    assert 1 <= grown["execution_count"] <= 2
    assert (grown["success_count"], grown["fail_count"]) == (2, 1)
    assert (grown["cache_hit_count"], grown["cache_miss_count"]) == (2, 2)
    assert min(grown["success_ns"], grown["fail_ns"], grown["compute_infer_ns"]) > 0


def test_statistics_are_of_all_models_of_one_or_of_a_version(client: httpx.Client) -> None:
    everything = client.get("/v2/models/stats").json()["model_stats"]
    assert sorted(entry["name"] for entry in everything) == sorted(MODELS)
    version = client.get("/v2/models/image").json()["versions"][0]
    for path in ("/v2/models/image/stats", f"/v2/models/image/versions/{version}/stats"):
        (found,) = client.get(path).json()["model_stats"]
        assert (found["name"], found["version"]) == ("image", version)


def test_the_repository_lists_what_is_loaded(client: httpx.Client) -> None:
    for body in (b"", b"{}", b'{"ready": true}'):
        found = client.post("/v2/repository/index", content=body).json()
        loaded = [entry for entry in found if entry["state"] == "READY"]
        assert sorted(entry["name"] for entry in loaded) == sorted(MODELS)
        assert all(entry["reason"] == "" for entry in loaded)


@pytest.mark.parametrize("action", ["load", "unload"])
def test_loading_is_off_by_default_and_the_setting_is_named(client: httpx.Client, action: str) -> None:
    response = client.post(f"/v2/repository/models/sentiment/{action}")
    assert (response.status_code, "TIFFIN_MODEL_CONTROL" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/none"),
        ("GET", "/v2/models/none/ready"),
        ("GET", "/v2/models/none/config"),
        ("GET", "/v2/models/none/stats"),
        ("GET", "/v2/models/sentiment/versions/none"),
        ("GET", "/v2/models/sentiment/versions/none/ready"),
        ("POST", "/v2/models/none/infer"),
        ("POST", "/v2/models/none/versions/1/infer"),
        ("GET", "/v2/nothing"),
    ],
)
def test_what_is_not_there_is_404_with_an_error(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
    assert response.json()["error"]


def test_probes_are_counted_as_of_no_model(client: httpx.Client) -> None:
    client.get("/v2/health/live")
    client.get("/v2/models/sentiment/ready")
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("tiffin_requests_total{")]
    probes = [line for line in lines if "/ready" in line or "/live" in line]
    assert probes
    assert all('model=""' in line for line in probes)
