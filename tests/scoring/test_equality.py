"""Offline scoring answers as the server does, for all models, with the same verdict on each row."""

from __future__ import annotations

import asyncio
import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from loadtest.processes import free_port
from models.model import Array
from models.segmentation.columns import THRESHOLD
from serving.bento.shipped import FOLDER
from tests.scoring.conftest import Run
from tests.scoring.drawn import Customer, customers, expected, pictures, texts, tumours
from tests.support.answers import answer
from tests.support.clocks import wait_until
from tests.support.grpc_clients import client_of, outputs, request_for
from tests.support.servers import serving

ROWS = 10_000
TOLERANCE = 1e-6
JOB_SECONDS = 120


@pytest.fixture(scope="module")
def golden() -> list[Customer]:
    return customers(ROWS, seed=20_261_127)


@pytest.fixture(scope="module")
def probabilities(golden: list[Customer]) -> Array:
    return expected(golden, FOLDER / "segmentation" / "model.onnx")


def table(golden: Sequence[Customer]) -> pa.Table:
    return pa.Table.from_pylist([drawn.row for drawn in golden])


def write(path: Path, golden: Sequence[Customer]) -> Path:
    """Write rows in the format that the name of the file tells."""
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(drawn.row)}\n" for drawn in golden), encoding="utf-8")
    elif path.suffix == ".csv":
        pa.csv.write_csv(table(golden), path)
    else:
        pa.parquet.write_table(table(golden), path)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a scored file; of CSV what is empty as None, and lists as such."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pa.parquet.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            return list(map(json.loads, file))
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def check(found: Sequence[float | None], golden: Sequence[Customer], probabilities: Array) -> None:
    """Check probabilities of all rows, None for bad ones."""
    good = np.array([drawn.is_good for drawn in golden])
    values = np.array([math.nan if value is None else float(value) for value in found])
    assert (np.isnan(values) == ~good).all()
    assert abs(values - probabilities)[good].max() < TOLERANCE


def check_classes(found: Sequence[int], probabilities: Sequence[float]) -> None:
    assert [int(each) for each in found] == [int(each > THRESHOLD) for each in probabilities]


def good_rows(golden: Sequence[Customer], probabilities: Array) -> tuple[list[Customer], Array]:
    places = [place for place, drawn in enumerate(golden) if drawn.is_good]
    return [golden[place] for place in places], probabilities[places]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_scoring_gives_what_the_coefficients_say(
    form: str, golden: list[Customer], probabilities: Array, scoring: Run, tmp_path: Path
) -> None:
    done = scoring("segmentation", write(tmp_path / f"in.{form}", golden), tmp_path / f"out.{form}")
    assert done.returncode == 0, done.stderr
    rows = read(tmp_path / f"out.{form}")
    check([row["class_probability"] for row in rows], golden, probabilities)
    good = [row for row in rows if row["error"] is None]
    check_classes([row["predicted_class"] for row in good], [float(row["class_probability"]) for row in good])
    assert {row["model_version"] for row in rows} == {f"segmentation:{version('segmentation')}"}
    assert [float(row["x0"]) for row in rows] == pytest.approx([drawn.row["x0"] for drawn in golden])


def version(name: str) -> str:
    import yaml

    return str(yaml.safe_load((FOLDER / name / "model.yaml").read_text(encoding="utf-8"))["version"])


def test_predict_and_infer_give_what_the_coefficients_say(
    client: httpx.Client, golden: list[Customer], probabilities: Array
) -> None:
    good, right = good_rows(golden, probabilities)
    rows = [drawn.row for drawn in good]
    check(answer(client.post("/segmentation/predict", json={"data": rows}))["class_probability"], good, right)
    check([pair[1] for pair in client.post("/segmentation/infer", json={"items": rows}).json()], good, right)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_uploadfile_gives_what_the_coefficients_say(
    form: str, client: httpx.Client, golden: list[Customer], probabilities: Array, tmp_path: Path
) -> None:
    good, right = good_rows(golden, probabilities)
    file = write(tmp_path / f"in.{form}", good).read_bytes()
    response = client.post("/segmentation/uploadfile", files={"file": ("rows", file)})
    check(answer(response)["class_probability"], good, right)


def test_a_job_gives_what_the_coefficients_say(
    store: Path, golden: list[Customer], probabilities: Array, tmp_path: Path
) -> None:
    good, right = good_rows(golden, probabilities)
    with (
        serving(store, {"TIFFIN_MODELS": "segmentation", "TIFFIN_JOB_STORE": str(tmp_path / "jobs")}) as address,
        httpx.Client(base_url=f"{address}/segmentation/score", timeout=30) as job_client,
    ):
        for form in ("csv", "jsonl", "parquet"):
            file = write(tmp_path / f"in.{form}", good).read_bytes()
            task = job_client.post("/submit", files={"file": ("rows", file)}).json()["task_id"]
            wait_until(lambda task=task: job_status(job_client, task) == "completed", JOB_SECONDS)  # type: ignore[misc]
            found = answer(job_client.get("/get", params={"task_id": task}))
            check(found["class_probability"], good, right)
            check_classes(found["predicted_class"], found["class_probability"])


def job_status(client: httpx.Client, task: str) -> Any:
    return answer(client.get("/status", params={"task_id": task}))["status"]


def test_v2_gives_what_the_coefficients_say(client: httpx.Client, golden: list[Customer], probabilities: Array) -> None:
    good, right = good_rows(golden, probabilities)
    found = v2(client, "segmentation", columns_of([drawn.row for drawn in good]))
    check(found["class_probability"], good, right)
    check_classes(found["predicted_class"], found["class_probability"])


def test_grpc_gives_what_the_coefficients_say(store: Path, golden: list[Customer], probabilities: Array) -> None:
    good, right = good_rows(golden, probabilities)
    columns: dict[str, Any] = {}
    for tensor in columns_of([drawn.row for drawn in good]):
        if tensor["datatype"] == "BYTES":
            columns[tensor["name"]] = [value or "" for value in tensor["data"]]
        else:
            columns[tensor["name"]] = np.array(tensor["data"], dtype=np.float64)

    async def asked(port: int) -> dict[str, Any]:
        async with client_of(port) as client:
            return outputs(await client.infer(request_for("segmentation", columns, raw=True)))

    port = free_port()
    with serving(store, {"TIFFIN_MODELS": "segmentation", "TIFFIN_GRPC_PORT": str(port)}):
        found = asyncio.run(asked(port))
    check(found["class_probability"], good, right)
    check_classes(found["predicted_class"], found["class_probability"])


def test_every_way_in_says_the_same_of_each_bad_row(
    client: httpx.Client, golden: list[Customer], scoring: Run, tmp_path: Path
) -> None:
    bad = [drawn for drawn in golden if not drawn.is_good]
    assert len(bad) > ROWS / 200
    done = scoring("segmentation", write(tmp_path / "in.parquet", bad), tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    for drawn, scored in zip(bad, read(tmp_path / "out.parquet"), strict=True):
        by_predict = client.post("/segmentation/predict", json={"data": [drawn.row]})
        assert by_predict.status_code == 422
        assert [f"{fault['loc'][-1]}: {fault['msg']}" for fault in by_predict.json()["detail"]] == [scored["error"]]
        by_v2 = client.post("/v2/models/segmentation/infer", json=v2_body(columns_of([drawn.row])))
        assert by_v2.status_code == 422
        assert by_v2.json()["detail"][0]["msg"] == scored["error"].replace("x12: ", "x12, row 0: ")


def test_breast_cancer_is_answered_alike(client: httpx.Client, scoring: Run, tmp_path: Path) -> None:
    rows, bad = tumours(ROWS)
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    done = scoring("breast_cancer", tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    scored = read(tmp_path / "out.parquet")
    assert {place for place, row in enumerate(scored) if row["error"] is not None} == bad
    good = [place for place in range(ROWS) if scored[place]["error"] is None]
    by_v2 = v2(client, "breast_cancer", columns_of([rows[place] for place in good]))
    assert [scored[place]["label"] for place in good] == by_v2["label"]
    assert [scored[place]["prediction"] for place in good] == by_v2["prediction"]
    for place in [*good[:500], *bad]:
        response = client.post("/breast_cancer/predict", json=rows[place])
        if scored[place]["error"] is None:
            names = ("label", "prediction")
            assert answer(response) == {name: scored[place][name] for name in names}
        else:
            told = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in response.json()["detail"]]
            assert (response.status_code, told) == (422, [scored[place]["error"]])


def test_sentiment_is_answered_alike(client: httpx.Client, scoring: Run, tmp_path: Path) -> None:
    drawn = texts(ROWS)
    pa.parquet.write_table(pa.table({"text": pa.array(drawn, pa.string())}), tmp_path / "in.parquet")
    done = scoring("sentiment", tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    scored = read(tmp_path / "out.parquet")
    good = [place for place, row in enumerate(scored) if row["error"] is None]
    assert len(good) == ROWS - 100
    for start in range(0, len(good), 256):
        part = good[start : start + 256]
        body = [drawn[place] for place in part]
        by_predict = answer(client.post("/sentiment/predict", json={"text": body}))["predictions"]
        by_v2 = v2(client, "sentiment", [{"name": "text", "shape": [len(body)], "datatype": "BYTES", "data": body}])
        rows = [scored[place] for place in part]
        assert [row["label"] for row in rows] == [ranked[0]["label"] for ranked in by_predict] == by_v2["label"]
        for found in ([ranked[0]["score"] for ranked in by_predict], by_v2["score"]):
            assert np.array([row["score"] for row in rows]) == pytest.approx(np.array(found), abs=TOLERANCE)
    for place in {drawn[place]: place for place in range(ROWS) if scored[place]["error"] is not None}.values():
        response = client.post("/sentiment/predict", json={"text": [drawn[place]]})
        told = [f"text: {fault['msg']}" for fault in response.json()["detail"]]
        assert (response.status_code, told) == (422, [scored[place]["error"]])


def test_pictures_are_answered_alike(client: httpx.Client, scoring: Run, tmp_path: Path) -> None:
    files = pictures()
    pa.parquet.write_table(pa.table({"image": pa.array(files, pa.binary())}), tmp_path / "in.parquet")
    done = scoring("image", tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    for file, row in zip(files, read(tmp_path / "out.parquet"), strict=True):
        response = client.post("/image/predict", files={"image_file": ("picture", file)})
        tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 4 + len(file)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        by_v2 = client.post(
            "/v2/models/image/infer",
            content=head + len(file).to_bytes(4, "little") + file,
            headers={"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"},
        )
        if row["error"] is None:
            assert answer(response)["Label"] == row["label"]
            assert answer(response)["Score"] == pytest.approx(row["score"], abs=TOLERANCE)
            tensors = {output["name"]: output["data"] for output in answer(by_v2)["outputs"]}
            assert tensors["label"] == [row["label"]]
            assert tensors["score"] == pytest.approx([row["score"]], abs=TOLERANCE)
        else:
            assert (response.status_code, by_v2.status_code) == (422, 422)
            for detail in (response.json()["detail"], by_v2.json()["detail"]):
                assert detail[0]["msg"].rpartition("row 0: ")[2] == row["error"].removeprefix("image: ")


def columns_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows as tensors of the Open Inference Protocol."""
    tensors = []
    for name in rows[0]:
        data = [row[name] for row in rows]
        is_text = any(isinstance(value, str) for value in data)
        tensors.append({"name": name, "shape": [len(data)], "datatype": "BYTES" if is_text else "FP64", "data": data})
    return tensors


def v2_body(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    known = [tensor for tensor in tensors if any(value is not None for value in tensor["data"])]
    return {"inputs": known}


def v2(client: httpx.Client, model: str, tensors: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the output columns of a request of the Open Inference Protocol."""
    response = client.post(f"/v2/models/{model}/infer", json=v2_body(tensors))
    return {output["name"]: output["data"] for output in answer(response)["outputs"]}
