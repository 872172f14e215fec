"""What clients, tests and load scripts of the servers that Tiffin replaces send, as docs/coming-from.md has it."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from models.segmentation.columns import VARIABLES
from serving.bento.shipped import FOLDER, read_info
from tests.support import ROOT
from tests.support.metrics import metric
from tests.support.pages import Request, check_answer, requests, runs_here, sections
from tests.support.photos import SHIP, saved
from tests.support.rows import OTHER_ROW, ROW, TUMOUR
from tests.support.servers import serving

PAGE = ROOT / "docs" / "coming-from.md"
SECTIONS = sections(PAGE)
GLM, TUMOURS, IMAGES, LAB, PROJECT = SECTIONS
# Of the image system's load test, against a network of its input size.
LOAD = "load"
SHOWN = [
    pytest.param(title, request, id=f"{title}{request.path}")
    for title, text in SECTIONS.items()
    for request in requests(PAGE, text)
    if runs_here(request)
]
HOUSE = {
    "MedInc": 8.3252,
    "HouseAge": 42,
    "AveRooms": 6.98,
    "AveBedrms": 1.02,
    "Population": 322,
    "AveOccup": 2.55,
    "Latitude": 37.88,
    "Longitude": -122.23,
}
MALIGNANT = {"label": "M", "prediction": 1}
AT_ONCE = 1_000
LOCUST = """
from locust import HttpUser, constant, task


class Client(HttpUser):
    wait_time = constant(1)

    @task
    def classify(self):
        with open("picture.jpg", "rb") as picture:
            form = {"with_resize": False, "with_post_process": False}
            self.client.post("/predict/image", data=form, files={"image_file": picture})
"""


def environment(title: str) -> dict[str, str]:
    """Return the settings in the command of a section that starts its server."""
    command = re.search(r"^(TIFFIN_.*) make serve", SECTIONS[title], re.MULTILINE)
    assert command is not None, title
    return dict(word.split("=", 1) for word in shlex.split(command[1]))


def put_entry(home: Path, like: str, name: str, graph: onnx.ModelProto, **preprocess: Any) -> None:
    """Put an entry into the store of `home`, like one that is shipped but for its graph and the size of pictures."""
    folder = home / "models" / name
    entry = Path(shutil.copytree(FOLDER / like, folder / "test"))
    info = read_info(entry) | {"name": name, "version": "test"}
    (entry / "model.yaml").write_text(yaml.safe_dump(info), encoding="utf-8")
    (folder / "latest").write_text("test", encoding="utf-8")
    onnx.save(graph, entry / "model.onnx")
    if preprocess:
        path = entry / "preprocess.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | preprocess), encoding="utf-8")


def network(labels: int, side: int = 224) -> onnx.ModelProto:
    """Return a small network with ResNet-50's input and its first layer, of random weights, that gives logits."""
    draw = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return onnx.numpy_helper.from_array(draw.normal(0, 0.1, shape).astype(np.float32), name)

    make = onnx.helper
    nodes = [
        make.make_node("Conv", ["pixel_values", "first"], ["a"], strides=[2, 2], pads=[3, 3, 3, 3]),
        make.make_node("Relu", ["a"], ["b"]),
        make.make_node("MaxPool", ["b"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        make.make_node("Conv", ["c", "second"], ["d"], strides=[4, 4]),
        make.make_node("GlobalAveragePool", ["d"], ["e"]),
        make.make_node("Flatten", ["e"], ["f"]),
        make.make_node("Gemm", ["f", "head"], ["logits"]),
    ]
    tensors = [weights("first", 64, 3, 7, 7), weights("second", 32, 64, 1, 1), weights("head", 32, labels)]
    return graph_of(nodes, tensors, ("pixel_values", ["n", 3, side, side]), ("logits", ["n", labels]))


def price() -> onnx.ModelProto:
    """Return a graph that gives a house's first feature as its price."""
    first = onnx.numpy_helper.from_array(np.eye(8, 1, dtype=np.float32), "first")
    return graph_of(
        [onnx.helper.make_node("MatMul", ["features", "first"], ["variable"])],
        [first],
        ("features", ["n", 8]),
        ("variable", ["n", 1]),
    )


def graph_of(nodes: Any, weights: Any, given: tuple[str, Any], found: tuple[str, Any]) -> onnx.ModelProto:
    """Return a model of one input and one output, by name and shape."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (given, found)]
    graph = onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)


@pytest.fixture(scope="module")
def addresses(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start the servers of the page's commands, and one for the image system's load; yield their addresses by title."""
    home = tmp_path_factory.mktemp("home")
    put_entry(home, "image", "image", network(labels=10), width=224, height=224)
    put_entry(home, "breast_cancer", "houses", price())
    project = tmp_path_factory.mktemp("project")
    for folder in ("models", "serving", "requirements"):
        # With the compiled modules, which would take longer to make again than all else here.
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("shipped"))
    shutil.copy(ROOT / "service.py", project)
    code = re.search(r"^```python\n(.*?)^```$", SECTIONS[LAB], re.DOTALL | re.MULTILINE)
    assert code is not None
    (project / "models" / "houses.py").write_text(code[1], encoding="utf-8")
    starting = {title: serving(store, environment(title)) for title in SECTIONS if title != LAB}
    starting[LAB] = serving(home, environment(LAB), cwd=project)
    starting[LOAD] = serving(home, {"TIFFIN_MODELS": "image:test"})
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(len(starting)) as pool:
        yield dict(zip(starting, pool.map(stack.enter_context, starting.values()), strict=True))


@pytest.mark.parametrize(("title", "request_"), SHOWN)
def test_a_request_gives_the_answer_shown(addresses: dict[str, str], title: str, request_: Request) -> None:
    check_answer(request_, addresses[title])


def post(address: str, path: str, **body: Any) -> Any:
    """Post to a server as a client that follows no redirects; return the JSON of its answer, which must be a 200."""
    response = httpx.post(f"{address}{path}", timeout=60, **body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("rows", [[ROW], [ROW, OTHER_ROW | {"x80": None}]], ids=["one row", "two rows"])
def test_rows_of_the_glm_app_are_scored(addresses: dict[str, str], rows: list[dict[str, Any]]) -> None:
    answers = [post(addresses[GLM], "/predict", json={"data": rows})]
    file = ("data.json", json.dumps({"data": rows}), "application/json")
    answers.append(post(addresses[GLM], "/uploadfile/", files={"file": file}))
    for answer in answers:
        assert len(answer["class_probability"]) == len(answer["predicted_class"]) == len(rows)
        assert answer["input_variables"] == list(VARIABLES)


def test_a_thousand_clients_of_the_glm_app_at_once_are_answered(addresses: dict[str, str]) -> None:
    body = {"data": [ROW, OTHER_ROW]}

    async def ask() -> int:
        async with httpx.AsyncClient(verify=False) as client:
            return (await client.post(f"{addresses[GLM]}/predict", json=body, timeout=300)).status_code

    async def ask_all() -> list[int]:
        return await asyncio.gather(*(ask() for _ in range(AT_ONCE)))

    assert asyncio.run(ask_all()) == [200] * AT_ONCE


def test_aliases_are_counted_as_the_routes_proper(addresses: dict[str, str]) -> None:
    def counted(**labels: str) -> float:
        return metric(addresses[GLM], "tiffin_requests_total", **labels)

    route = "/segmentation/predict"
    before, others = counted(route=route), counted(route="other")
    for path in ("/predict", "/predict/", "/bulk-predict", "/predict/segmentation", route, f"{route}/"):
        post(addresses[GLM], path, json={"data": [ROW]})
    assert (counted(route=route) - before, counted(route="other")) == (6, others)
    for path in ("/predict//", "/predict/image", "/sentiment/predict"):
        assert httpx.post(f"{addresses[GLM]}{path}", json={"data": [ROW]}).status_code == 404, path


def test_the_document_tells_aliases_but_lists_each_route_once(addresses: dict[str, str]) -> None:
    document = httpx.get(f"{addresses[GLM]}/docs.json/").json()
    assert "`/predict` for `/segmentation/predict`" in document["info"]["description"]
    assert not {"/predict", "/uploadfile", "/info", "/predict/segmentation"} & set(document["paths"])


def test_tumours_are_classified_as_the_client_sends_them(addresses: dict[str, str]) -> None:
    sent = {"headers": {"Content-Type": "application/json"}, "data": json.dumps(TUMOUR)}
    assert post(addresses[TUMOURS], "/predict", **sent) == MALIGNANT
    assert httpx.get(f"{addresses[TUMOURS]}/info").json()["name"] == "breast_cancer"


@pytest.mark.skipif(sys.platform == "win32", reason="it is a script of sh")
def test_tumours_are_classified_as_the_script_sends_them(addresses: dict[str, str]) -> None:
    curl = f"curl -sS -H 'Content-Type: application/json' -d '{json.dumps(TUMOUR)}' -XPOST {addresses[TUMOURS]}/predict"
    loop = f"for number in 1 2 3 4 5; do {curl}; echo; done"
    done = subprocess.run(["sh", "-c", loop], capture_output=True, text=True, timeout=60, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [MALIGNANT] * 5


@pytest.mark.parametrize("resize", ["True", "true"])
def test_pictures_are_classified_as_pythons_clients_send_them(addresses: dict[str, str], resize: str) -> None:
    form = {"data": {"with_resize": resize, "with_post_process": "True"}, "files": {"image_file": saved(SHIP, "JPEG")}}
    text = post(addresses[IMAGES], "/predict/image?answer=text", **form)
    assert set(json.loads(text)) == {"Label", "Score"}
    assert re.fullmatch(r"0\.\d{3}", json.loads(text)["Score"])


def test_the_image_systems_load_is_carried(addresses: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(saved(SHIP.resize((224, 224), Image.Resampling.BICUBIC), "JPEG"))
    (tmp_path / "load.py").write_text(LOCUST, encoding="utf-8")
    command = "-m locust -f load.py --headless --only-summary --csv found -u 150 -r 150 -t 4s -s 30 --host"
    done = subprocess.run(
        [sys.executable, *command.split(), addresses[LOAD]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr  # 1 where a request failed
    *_, total = csv.DictReader(io.StringIO((tmp_path / "found_stats.csv").read_text(encoding="utf-8")))
    assert (int(total["Request Count"]) > 0, total["Failure Count"]) == (True, "0")


def test_the_labs_houses_are_priced(addresses: dict[str, str]) -> None:
    for path in ("/lab/predict", "/lab/predict/", "/predict"):
        assert post(addresses[LAB], path, json=HOUSE)["prediction"] == pytest.approx(8.3252)
    found = post(addresses[LAB], "/lab/bulk-predict", json={"houses": [HOUSE, HOUSE | {"MedInc": 0}]})
    assert found["predictions"] == pytest.approx([8.3252, 0])
    for wrong in (HOUSE | {"Latitude": 97}, HOUSE | {"more": 1}, {}):
        response = httpx.post(f"{addresses[LAB]}/lab/bulk-predict", json={"houses": [wrong]})
        assert response.status_code == 422
    for path in ("/lab/health", "/lab/docs", "/lab/docs/"):
        assert httpx.get(f"{addresses[LAB]}{path}").status_code == 200
    assert httpx.get(f"{addresses[LAB]}/lab/abcdefg").status_code == 404


@pytest.mark.parametrize("path", ["/project/bulk-predict", "/project/predict", "/project/bulk-predict/"])
def test_the_projects_texts_are_classified(addresses: dict[str, str], path: str) -> None:
    texts = ["I hate you.", "I love you.", "I am a Kubernetes Cluster!"]
    # k6 sends a text without a media type.
    answers = post(addresses[PROJECT], path, content=json.dumps({"text": texts}))["predictions"]
    assert [[entry["label"] for entry in ranked] for ranked in answers][:2] == [
        ["NEGATIVE", "POSITIVE"],
        ["POSITIVE", "NEGATIVE"],
    ]
    assert all(set(entry) == {"label", "score"} for ranked in answers for entry in ranked)
    for wrong in ({"wrong_key": texts}, {"text": [None]}):
        assert httpx.post(f"{addresses[PROJECT]}{path}", json=wrong).status_code == 422
