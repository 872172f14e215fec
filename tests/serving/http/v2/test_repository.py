"""Loading and unloading versions of models while the server answers requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.rows import TUMOUR
from tests.support.servers import Server, started_server

KEY = {"X-API-Key": "secret"}
MALIGNANT, BENIGN = {"label": "M", "prediction": 1}, {"label": "B", "prediction": 0}
REPOSITORY = "/v2/repository/models/breast_cancer"
SETTINGS = {
    "TIFFIN_MODELS": "breast_cancer",
    "TIFFIN_MODEL_CONTROL": "true",
    "TIFFIN_WORKERS": "1",
    "TIFFIN_API_KEYS": KEY["X-API-Key"],
}


@pytest.fixture(scope="module")
def running(home: Path, newest: str) -> Iterator[Server]:
    with started_server(home, SETTINGS) as server:
        yield server


@pytest.fixture
def client(running: Server) -> Iterator[httpx.Client]:
    """Yield a client of the server with its newest version loaded alone."""
    with httpx.Client(base_url=running.address, timeout=60, headers=KEY) as client:
        yield client
        client.post(f"{REPOSITORY}/unload")
        assert client.post(f"{REPOSITORY}/load").status_code == 200


def command(client: httpx.Client, action: str, version: str | None = None) -> httpx.Response:
    """Load or unload a version, or the default."""
    return client.post(f"{REPOSITORY}/{action}", json={"parameters": {"version": version}} if version else None)


def predict(client: httpx.Client, version: str = "") -> httpx.Response:
    """Ask for a prediction that is known to the caches after the first time."""
    return client.post(f"/breast_cancer{f'/versions/{version}' if version else ''}/predict", json=TUMOUR)


def states(client: httpx.Client) -> dict[str, str]:
    """Return the state of each version."""
    return {entry["version"]: entry["state"] for entry in client.post("/v2/repository/index").json()}


def test_versions_are_loaded_beside_each_other_and_the_newest_is_the_default(client: httpx.Client, newest: str) -> None:
    assert [*states(client).items()] == [(newest, "READY"), ("opposite", "UNAVAILABLE")]
    assert predict(client, "opposite").status_code == 404
    assert command(client, "load", "opposite").json()["version"] == "opposite"
    assert states(client) == {newest: "READY", "opposite": "READY"}
    assert (predict(client, "opposite").json(), predict(client).json()) == (BENIGN, MALIGNANT)
    assert client.get("/v2/models/breast_cancer").json()["versions"] == [newest, "opposite"]


def test_no_answer_of_one_version_survives_in_the_place_of_another(client: httpx.Client, newest: str) -> None:
    assert [predict(client).json() for _ in range(2)] == [MALIGNANT] * 2
    assert command(client, "load", "opposite").status_code == 200
    assert command(client, "unload", newest).status_code == 200
    response = predict(client)
    assert (response.json(), response.headers["x-model-version"]) == (BENIGN, "opposite")
    assert command(client, "load").json()["version"] == newest
    assert predict(client).json() == MALIGNANT


def test_a_model_that_is_unloaded_is_not_there(client: httpx.Client) -> None:
    assert command(client, "unload").status_code == 200
    assert predict(client).status_code == 404
    assert client.get("/v2/models/breast_cancer").status_code == 404
    assert client.get("/v2/models/breast_cancer/ready").json() == {"name": "breast_cancer", "ready": False}
    assert command(client, "unload").status_code == 404
    assert client.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{REPOSITORY}/load", {"parameters": {"version": "absent"}}, 404),
        (f"{REPOSITORY}/load", {"parameters": {"version": 1}}, 400),
        (f"{REPOSITORY}/load", {"parameters": {"config": "{}"}}, 400),
        (f"{REPOSITORY}/load", {"version": "absent"}, 400),
        (f"{REPOSITORY}/load", [], 400),
        ("/v2/repository/models/none/load", {}, 404),
        ("/v2/repository/models/sentiment/load", {}, 404),
    ],
)
def test_what_cannot_be_loaded_is_told(client: httpx.Client, path: str, body: object, status: int) -> None:
    response = client.post(path, json=body)
    assert (response.status_code, bool(response.json()["error"])) == (status, True)


def test_a_key_is_needed(running: Server) -> None:
    for path in ("index", "models/breast_cancer/load", "models/breast_cancer/unload"):
        assert httpx.post(f"{running.address}/v2/repository/{path}").status_code == 401


def test_no_request_is_lost_while_versions_come_and_go(client: httpx.Client, newest: str) -> None:
    assert command(client, "load", "opposite").status_code == 200
    ended = threading.Event()

    def ask(number: int) -> set[int]:
        found = set()
        count = 0
        while not ended.is_set():
            count += 1
            body = TUMOUR | {"area_se": 100 + number + count / 1000}
            found.add(client.post("/breast_cancer/predict", json=body).status_code)
        return found

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        try:
            for _ in range(3):
                assert command(client, "unload", newest).status_code == 200
                assert command(client, "load", newest).status_code == 200
        finally:
            ended.set()
        assert {status for found in asking for status in found.result()} == {200}


def test_metrics_tell_which_versions_are_loaded(client: httpx.Client, newest: str) -> None:
    sample = f'tiffin_model_info{{model="breast_cancer",tag="breast_cancer:{newest}"}}'
    for action, value in (("unload", 0.0), ("load", 1.0)):
        assert command(client, action, newest).status_code == 200
        assert f"{sample} {value}" in client.get("/metrics").text.splitlines()


def test_a_version_that_has_answered_infer_can_be_unloaded(client: httpx.Client, newest: str) -> None:
    assert client.post("/breast_cancer/infer", json={"items": [TUMOUR]}).json() == [1]
    assert command(client, "unload", newest).status_code == 200


def test_an_idle_connection_does_not_keep_a_model_that_answered_on_it(client: httpx.Client, running: Server) -> None:
    with httpx.Client(base_url=running.address, timeout=60, headers=KEY) as idle:
        assert predict(idle).status_code == 200
        assert command(client, "unload").status_code == 200


def test_memory_is_given_back(client: httpx.Client, running: Server, newest: str) -> None:
    worker = max(
        psutil.Process(running.process.pid).children(recursive=True), key=lambda child: child.memory_info().rss
    )
    sizes = []
    for _ in range(20):
        assert command(client, "unload", newest).status_code == 200
        assert command(client, "load", newest).status_code == 200
        assert predict(client).json() == MALIGNANT
        sizes.append(worker.memory_info().rss)
    assert sizes[-1] <= 1.05 * sizes[1]
