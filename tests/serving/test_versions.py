"""Several versions of a model side by side, and a server behind a proxy's prefix, on real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import run_python
from tests.support.rows import TUMOUR
from tests.support.servers import serving

MALIGNANT, BENIGN = {"label": "M", "prediction": 1}, {"label": "B", "prediction": 0}
OLD, OLD_PATH = "/breast_cancer/versions/opposite", "/breast_cancer/versions/{version}"
BATCHES = "tiffin_batch_items_count"


@pytest.fixture(scope="module")
def address(home: Path, newest: str) -> Iterator[str]:
    """Start a server of both versions, which compute one item at a time; yield its address."""
    env = {
        "TIFFIN_MODELS": "breast_cancer,breast_cancer:opposite",
        "TIFFIN_MODEL__BREAST_CANCER__MAX_BATCH": "1",
        "TIFFIN_SESSION_THREADS": "1",
    }
    with serving(home, env) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def test_each_version_answers_at_its_path_and_the_newest_by_default(client: httpx.Client, newest: str) -> None:
    answers = {"/breast_cancer": MALIGNANT, OLD: BENIGN, f"/breast_cancer/versions/{newest}": MALIGNANT}
    for _ in range(2):  # the second time from the caches
        for path, expected in answers.items():
            response = client.post(f"{path}/predict", json=TUMOUR)
            assert response.json() == expected
            assert response.headers["x-model-version"] == ("opposite" if path == OLD else newest)
    assert response.headers["x-cache"] == "hit"


def test_each_version_explains_its_own_answer(client: httpx.Client) -> None:
    for _ in range(2):  # the second time from the cache
        new, old = (client.post(f"{path}/explain", json=TUMOUR).json() for path in ("/breast_cancer", OLD))
        assert (new["prediction"], old["prediction"]) == (MALIGNANT, BENIGN)
        for found in (new, old):
            assert found["base"] + sum(entry["value"] for entry in found["contributions"]) == pytest.approx(1)


def test_items_of_one_version_are_not_mixed_with_those_of_another(client: httpx.Client, newest: str) -> None:
    def ask(number: int) -> tuple[Any, str]:
        body = {"items": [TUMOUR | {"area_se": 153.4 + number / 1000}]}
        response = client.post(f"{OLD if number % 2 else '/breast_cancer'}/infer", json=body)
        return response.json(), response.headers["x-model-version"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(100)))
    assert answers == [([1], newest), ([0], "opposite")] * 50


@pytest.mark.parametrize("path", ["predict", "infer"])
def test_a_version_that_is_not_loaded_is_named(client: httpx.Client, newest: str, path: str) -> None:
    response = client.post(f"/breast_cancer/versions/absent/{path}", json=TUMOUR)
    told = f"no version absent of breast_cancer, only opposite, {newest}"
    assert (response.status_code, response.json()["error"]) == (404, told)
    assert "x-model-version" not in response.headers


def test_info_lists_the_versions(client: httpx.Client, newest: str) -> None:
    default, old = (client.get(f"{path}/info").json() for path in ("/breast_cancer", OLD))
    assert default["versions"] == old["versions"] == ["opposite", newest]
    assert (default["version"], old["version"]) == (f"breast_cancer:{newest}", "breast_cancer:opposite")
    assert client.get("/breast_cancer/versions/absent/info").status_code == 404


def test_the_document_lists_the_versions(client: httpx.Client, newest: str) -> None:
    paths = client.get("/docs.json").json()["paths"]
    found = {path: methods for path, methods in paths.items() if "{version}" in path}
    assert found.keys() == {
        *(
            f"/breast_cancer/versions/{{version}}/{name}"
            for name in ("predict", "uploadfile", "preview", "explain", "infer", "info")
        ),
        *(f"/v2/models{OLD_PATH}{name}" for name in ("", "/config", "/stats", "/ready", "/infer")),
    }
    ids = [operation.get("operationId") for methods in paths.values() for operation in methods.values()]
    assert len(set(ids) - {None}) == len([name for name in ids if name])
    for path, methods in found.items():
        ((method, operation),) = methods.items()
        (parameter,) = (parameter for parameter in operation["parameters"] if parameter["in"] == "path")
        assert (parameter["name"], parameter["required"]) == ("version", True)
        for version in parameter["schema"]["enum"]:
            body = example(operation.get("requestBody", {}).get("content", {}))
            assert client.request(method, path.format(version=version), **body).status_code == 200


def example(content: dict[str, Any]) -> dict[str, Any]:
    """Return the example of a request body as arguments for httpx."""
    for media_type, described in content.items():
        schema = described["schema"]
        if media_type == "application/json":
            return {"json": schema["example"]}
        return {"files": {name: ("a", field["examples"][0]) for name, field in schema["properties"].items()}}
    return {}


def test_bentomls_client_can_call_either_version(address: str) -> None:
    with bentoml.SyncHTTPClient(address) as asking:
        assert asking.breast_cancer_infer(items=[TUMOUR]) == [1]
        assert asking.breast_cancer_infer_opposite(items=[TUMOUR]) == [0]


def test_settings_of_a_model_hold_for_each_version(client: httpx.Client, newest: str) -> None:
    def batches() -> dict[str, float]:
        samples = (
            sample
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
        )
        return {sample.labels["version"]: sample.value for sample in samples if sample.name == BATCHES}

    before = batches()
    items = [TUMOUR | {"texture_worst": 10.0 + number} for number in range(5)]
    for path in ("/breast_cancer", OLD):
        client.post(f"{path}/infer", json={"items": items})
    assert {version: count - before[version] for version, count in batches().items()} == {newest: 5, "opposite": 5}


@pytest.fixture(scope="module")
def prefixed(home: Path, newest: str) -> Iterator[str]:
    """Start a server of the older version behind a path prefix; yield its address."""
    env = {"TIFFIN_MODELS": "breast_cancer:opposite", "ROOT_PATH": "/project"}
    with serving(home, env) as address:
        yield address


def test_a_version_alone_is_the_default(prefixed: str) -> None:
    for path in ("/breast_cancer", OLD):
        response = httpx.post(f"{prefixed}{path}/predict", json=TUMOUR)
        assert (response.json(), response.headers["x-model-version"]) == (BENIGN, "opposite")
        assert httpx.post(f"{prefixed}{path}/infer", json={"items": [TUMOUR]}, timeout=30).json() == [0]
    assert httpx.get(f"{prefixed}/breast_cancer/info").json()["versions"] == ["opposite"]


@pytest.mark.parametrize("prefix", ["", "/project"])
def test_all_is_found_with_the_prefix_and_without_it(prefixed: str, prefix: str) -> None:
    with httpx.Client(base_url=f"{prefixed}{prefix}", timeout=30) as client:
        page = client.get("/docs")
        files = re.findall(r'(?:href|src|url)[=:] ?"\./([^"]+)"', page.text)
        assert {"docs.json", "static_content/swagger-ui.css"} < set(files)
        files += re.findall(r'(?:href|src)="\./([^"]+)"', client.get("/").text)
        assert {"static/app.js", "static/style.css", "docs"} < set(files)
        for path in (*files, "/", "/health", "/readyz", "/metrics", "/breast_cancer/info"):
            assert client.get(path).status_code == 200, path
        assert client.post("/breast_cancer/predict", json=TUMOUR).json() == BENIGN
        assert client.post("/breast_cancer/infer", json={"items": [TUMOUR]}).json() == [0]
        assert client.post("/breast_cancer/explain", json=TUMOUR).json()["prediction"] == BENIGN
        assert client.get("/nothing").status_code == 404


def test_the_document_names_the_prefix(prefixed: str) -> None:
    document = httpx.get(f"{prefixed}/project/docs.json").json()
    assert document["servers"] == [{"url": "/project"}]
    assert "/breast_cancer/predict" in document["paths"]


def test_the_prefix_alone_leads_to_the_page(prefixed: str) -> None:
    response = httpx.get(f"{prefixed}/project", follow_redirects=True)
    assert (response.url.path, response.status_code) == ("/project/", 200)


def test_what_only_begins_like_the_prefix_is_another_path(prefixed: str) -> None:
    assert httpx.get(f"{prefixed}/projects/health").status_code == 404


def test_metrics_name_routes_without_the_prefix(prefixed: str) -> None:
    httpx.get(f"{prefixed}/project/health")
    text = httpx.get(f"{prefixed}/project/metrics").text
    assert 'route="/health"' in text
    assert "/project" not in text


def test_bentomls_client_takes_the_prefix(prefixed: str) -> None:
    with bentoml.SyncHTTPClient(f"{prefixed}/project") as client:
        assert client.breast_cancer_predict(**TUMOUR) == BENIGN
        assert client.breast_cancer_infer(items=[TUMOUR]) == [0]


def test_the_newest_of_several_versions_is_the_default_in_whatever_order(home: Path, newest: str) -> None:
    wanted = [[name, "breast_cancer:opposite"] for name in ("breast_cancer", f"breast_cancer:{newest}")]
    script = (
        "from serving.bento import store\n"
        f"for names in {wanted}: print(*[model.tag for model in store.stored_models(names, None)])"
    )
    done = run_python(home, "-c", script)
    # The default comes last.
    assert done.stdout.splitlines() == [f"breast_cancer:opposite breast_cancer:{newest}"] * 2, done.stderr


def test_a_version_that_the_store_lacks_is_told_with_those_that_it_has(home: Path, newest: str) -> None:
    script = "from serving.bento import start; start.check_models(start.read_settings().models)"
    done = run_python(home, "-c", script, env={"TIFFIN_MODELS": "breast_cancer,breast_cancer:absent"})
    assert done.returncode == 1
    assert done.stderr == (
        f"TIFFIN_MODELS=breast_cancer,breast_cancer:absent: the model store in {home} has no breast_cancer:absent; "
        f"it has breast_cancer:{newest}, breast_cancer:opposite\n"
    )


def test_a_bento_has_each_version(home: Path, newest: str, tmp_path: Path) -> None:
    env = {"TIFFIN_MODELS": "breast_cancer:opposite,breast_cancer"}
    done = run_python(home, "-m", "bentoml", "build", "--output", "tag", env=env)
    assert done.returncode == 0, done.stderr
    with serving(home, env, bento="tiffin:latest", cwd=tmp_path) as address:
        info = httpx.get(f"{address}/breast_cancer/info").json()
        assert (info["version"], info["versions"]) == (f"breast_cancer:{newest}", ["opposite", newest])
        assert httpx.post(f"{address}{OLD}/predict", json=TUMOUR).json() == BENIGN
