"""Background jobs as clients see them, on a server with a store in a folder and, by `make kills`, on a shared one."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from bentoml import AsyncHTTPClient
from bentoml.exceptions import BentoMLException

from loadtest import inputs
from tests.support import ROOT
from tests.support.answers import answer
from tests.support.clocks import wait_until
from tests.support.job_stores import Stores
from tests.support.pages import blocks
from tests.support.rows import OTHER_ROW, ROW
from tests.support.servers import Server, started_server

KEYS = ("first-key", "second-key")
FIRST, SECOND = ({"X-API-Key": key} for key in KEYS)
END_SECONDS = 120
UNKNOWN = "0" * 32
MAX_BYTES = 2**24


@pytest.fixture(scope="module")
def job_server(store: Path, stores: Stores) -> Iterator[Server]:
    settings = {"TIFFIN_API_KEYS": ",".join(KEYS), "TIFFIN_JOB_WORKER": "true", "TIFFIN_JOB_LEASE_SECONDS": "2"}
    settings |= {
        "TIFFIN_JOB_MAX_UNFINISHED": "3",
        "TIFFIN_JOB_MAX_BYTES": str(MAX_BYTES),
        "TIFFIN_TIMEOUT_SECONDS": "60",
    }
    with started_server(store, {**stores.env, **settings}) as server:
        yield server


@pytest.fixture(scope="module")
def asking(job_server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=job_server.address, headers=FIRST, timeout=60) as client:
        yield client


def text_file(count: int) -> bytes:
    return "".join(f"{json.dumps({'text': inputs.text(number)})}\n" for number in range(count)).encode()


def tumour_file(count: int) -> bytes:
    rows = [inputs.tumour(number) for number in range(count)]
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    return "\n".join(lines).encode()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for place, picture in enumerate(inputs.pictures()[:66]):
            written.writestr(f"{place}/picture.jpg", picture)
    return file.getvalue()


def rows_file(count: int) -> bytes:
    rows = [
        {name: row[name] for name in ("x5", "x12", "x31", "x53", "x63", "x81", "x82", "x91")}
        for row in (ROW, OTHER_ROW)
    ]
    return json.dumps({"data": rows * (count // 2)}).encode()


# Files of several chunks each, but for the pictures.
FILES = {
    "segmentation": rows_file(6_000),
    "breast_cancer": tumour_file(12_000),
    "sentiment": text_file(300),
    "image": archive(),
}


def submitted(client: httpx.Client, model: str, file: bytes, **options: Any) -> str:
    response = client.post(f"/{model}/score/submit", files={"file": ("rows", file)}, **options)
    assert response.status_code == 202, response.text
    task: str = response.json()["task_id"]
    return task


def ended(client: httpx.Client, model: str, task: str) -> dict[str, Any]:
    """Wait until a job has ended; return its status."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        status: dict[str, Any] = answer(client.get(f"/{model}/score/status", params={"task_id": task}))
        if status["status"] in ("completed", "failed", "canceled"):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.1)


def finished(client: httpx.Client, model: str) -> str:
    """Return the id of the job of a model's file in FILES, which has completed."""
    task = submitted(client, model, FILES[model], headers={"Idempotency-Key": model})
    status = ended(client, model, task)
    assert status["status"] == "completed", status
    return task


def result(client: httpx.Client, model: str, task: str, **options: Any) -> httpx.Response:
    return client.get(f"/{model}/score/get", params={"task_id": task, **options.pop("params", {})}, **options)


@pytest.mark.parametrize("model", FILES)
def test_a_job_answers_what_uploadfile_answers(asking: httpx.Client, model: str) -> None:
    task = finished(asking, model)
    status = answer(asking.get(f"/{model}/score/status", params={"task_id": task}))
    uploaded = answer(asking.post(f"/{model}/uploadfile", files={"file": ("rows", FILES[model])}))
    found = answer(result(asking, model, task))
    assert list(found) == list(uploaded)
    assert (
        len(found["label" if model != "segmentation" else "class_probability"]) == status["rows"] == status["rows_done"]
    )
    for name, values in uploaded.items():
        if isinstance(values[0], float | list):
            assert found[name] == [pytest.approx(value, abs=1e-6) for value in values]
        else:
            assert found[name] == values
    if model == "image":
        assert found["file"][1] == "1/picture.jpg"


def test_a_submission_tells_where_to_ask_for_it(asking: httpx.Client) -> None:
    response = asking.post("/breast_cancer/score/submit", files={"file": ("rows", tumour_file(10))})
    task = response.json()["task_id"]
    assert (response.status_code, response.json()) == (202, {"task_id": task, "status": "in_progress"})
    assert response.headers["Location"] == f"/breast_cancer/score/status?task_id={task}"
    assert response.headers["Retry-After"] == "1"
    status = answer(asking.get(response.headers["Location"]))
    assert status["task_id"] == task
    assert status["model_version"] == response.headers["X-Model-Version"]
    status = ended(asking, "breast_cancer", task)
    assert status["created_at"] <= status["executed_at"] <= status["finished_at"]


def test_bentomls_own_client_submits_asks_and_fetches(job_server: Server, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(tumour_file(20))

    async def completed(task: Any) -> Any:
        async with asyncio.timeout(END_SECONDS):
            while (await task.get_status()).value != "completed":
                await asyncio.sleep(0.1)
        return await task.get()

    async def ask() -> None:
        # In BentoML 1.4.39 the other client, SyncHTTPClient, fails after each submission, to whatever server.
        async with AsyncHTTPClient(job_server.address, token=KEYS[0]) as client:
            task = await client.breast_cancer_score.submit(file=tmp_path / "rows.csv")
            found = await completed(task)
            assert len(found["label"]) == 20
            again = await task.retry()
            assert again.id != task.id
            assert await completed(again) == found
            with pytest.raises(BentoMLException):
                await again.cancel()

    asyncio.run(ask())


def test_the_result_is_had_as_json_csv_and_parquet(asking: httpx.Client, tmp_path: Path) -> None:
    task = finished(asking, "sentiment")
    right = answer(result(asking, "sentiment", task))
    by_accept = result(asking, "sentiment", task, headers={"Accept": "text/csv"})
    by_format = result(asking, "sentiment", task, params={"format": "csv"})
    assert by_accept.content == by_format.content
    assert by_accept.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(by_accept.text)))
    assert [row["label"] for row in rows] == right["label"]
    assert [float(row["score"]) for row in rows] == right["score"]
    assert [json.loads(row["probabilities"]) for row in rows] == right["probabilities"]
    parquet = tmp_path / "result.parquet"
    response = result(asking, "sentiment", task, params={"format": "parquet"})
    parquet.write_bytes(response.content)
    columns = duckdb.execute(f"SELECT label, score, probabilities FROM '{parquet}'").fetchall()
    assert columns == list(zip(right["label"], right["score"], right["probabilities"], strict=True))
    assert task in response.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"params": {"format": "xlsx"}}, 422),
        ({"params": {"format": ""}}, 422),
        ({"headers": {"Accept": "image/png"}}, 406),
        ({"headers": {"Accept": "text/csv;q=0, image/png"}}, 406),
        ({"headers": {"Accept": "image/png, application/json;q=0.1"}}, 200),
        ({"headers": {"Accept": "text/csv;q=x, */*"}}, 200),
    ],
)
def test_other_formats_are_refused(asking: httpx.Client, options: dict[str, Any], status: int) -> None:
    task = finished(asking, "breast_cancer")
    assert result(asking, "breast_cancer", task, **options).status_code == status


@pytest.mark.parametrize(
    ("task", "status"),
    [
        (None, 400),
        ("", 400),
        (UNKNOWN, 404),
        ("../../etc/passwd", 404),
        ("0" * 31 + "\0", 404),
        ("' OR 1=1 --", 404),
        ("0" * 20_000, 404),
        ("%s" * 16, 404),
    ],
)
@pytest.mark.parametrize(
    "call", ["GET status", "GET get", "PUT cancel", "POST retry", "DELETE tasks"], ids=lambda call: call
)
def test_ids_that_are_none_are_told_so(asking: httpx.Client, call: str, task: str | None, status: int) -> None:
    method, action = call.split()
    response = asking.request(
        method, f"/breast_cancer/score/{action}", params=None if task is None else {"task_id": task}
    )
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error", "detail"}


def test_a_job_is_seen_by_its_key_and_by_its_model_only(job_server: Server, asking: httpx.Client) -> None:
    task = submitted(asking, "breast_cancer", tumour_file(10))
    ended(asking, "breast_cancer", task)
    listed = answer(asking.get("/breast_cancer/score/tasks", params={"limit": 1}))["tasks"]
    assert [each["task_id"] for each in listed] == [task]
    for action in ("status", "get"):
        path = f"{job_server.address}/breast_cancer/score/{action}?task_id={task}"
        assert httpx.get(path, headers=SECOND).status_code == 404
        assert httpx.get(path).status_code == 401
        assert asking.get(f"/sentiment/score/{action}", params={"task_id": task}).status_code == 404
    assert asking.put("/sentiment/score/cancel", params={"task_id": task}).status_code == 404
    assert httpx.get(f"{job_server.address}/breast_cancer/score/tasks", headers=SECOND).json() == {"tasks": []}
    for limit in ("0", "101", "-1", "x", "9" * 5_000, "²"):
        assert asking.get("/breast_cancer/score/tasks", params={"limit": limit}).status_code == 422


def test_a_file_whose_start_is_wrong_is_refused_at_once(asking: httpx.Client) -> None:
    bad = tumour_file(10).replace(b"\n", b"\nx,", 1)
    response = asking.post("/breast_cancer/score/submit", files={"file": ("rows", bad)})
    uploaded = asking.post("/breast_cancer/uploadfile", files={"file": ("rows", bad)})
    assert (response.status_code, response.json()) == (422, uploaded.json())
    assert asking.post("/breast_cancer/score/submit", files={"other": ("rows", bad)}).status_code == 422
    assert asking.post("/breast_cancer/score/submit", json={}).status_code == 415


def test_a_bad_row_fails_the_job_as_it_fails_an_upload(asking: httpx.Client) -> None:
    lines = tumour_file(9_000).split(b"\n")
    lines[8_001] = b"-" + lines[8_001]
    bad = b"\n".join(lines)
    task = submitted(asking, "breast_cancer", bad)
    uploaded = asking.post("/breast_cancer/uploadfile", files={"file": ("rows", bad)})
    status = ended(asking, "breast_cancer", task)
    assert (status["status"], status["detail"]) == ("failed", uploaded.json()["detail"])
    assert status["detail"][0]["loc"] == ["file", "data", 8_000, "concavity_mean"]
    response = result(asking, "breast_cancer", task)
    assert (response.status_code, response.json()) == (uploaded.status_code, uploaded.json())


def test_a_file_that_is_no_picture_fails_the_job_by_its_name(asking: httpx.Client) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        written.writestr("good.jpg", inputs.pictures()[0])
        written.writestr("bad.jpg", b"no picture")
    task = submitted(asking, "image", file.getvalue())
    status = ended(asking, "image", task)
    uploaded = asking.post("/image/uploadfile", files={"file": ("rows", file.getvalue())})
    assert (status["status"], status["detail"]) == ("failed", uploaded.json()["detail"])
    assert status["detail"][0]["msg"].startswith("bad.jpg: ")


def test_the_same_idempotency_key_is_the_same_job(job_server: Server, asking: httpx.Client) -> None:
    key = {"Idempotency-Key": "once"}
    task = submitted(asking, "breast_cancer", tumour_file(10), headers=key)
    assert submitted(asking, "breast_cancer", tumour_file(10), headers=key) == task
    other = asking.post("/breast_cancer/score/submit", files={"file": ("rows", tumour_file(11))}, headers=key)
    assert (other.status_code, other.json()["detail"][0]["loc"]) == (422, ["header", "Idempotency-Key"])
    with httpx.Client(base_url=job_server.address, headers=SECOND, timeout=60) as second:
        assert submitted(second, "breast_cancer", tumour_file(10), headers=key) != task
    for wrong in ("", "two words", "a" * 256):
        response = asking.post(
            "/breast_cancer/score/submit",
            files={"file": ("rows", tumour_file(10))},
            headers={"Idempotency-Key": wrong},
        )
        assert response.status_code == 422


def test_canceled_and_unfinished_jobs_have_no_result_and_too_many_are_refused(asking: httpx.Client) -> None:
    slow = [submitted(asking, "sentiment", text_file(6_000)) for _ in range(3)]
    refused = asking.post("/breast_cancer/score/submit", files={"file": ("rows", tumour_file(1))})
    assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
    assert result(asking, "sentiment", slow[2]).status_code == 400
    assert asking.post("/sentiment/score/retry", params={"task_id": slow[2]}).status_code == 400
    for task in slow:
        for _ in range(2):
            found = answer(asking.put("/sentiment/score/cancel", params={"task_id": task}))
            assert found["status"] == "canceled"
        response = result(asking, "sentiment", task)
        assert (response.status_code, response.json()["error"]) == (400, f"task {task} was canceled")
    finished = submitted(asking, "breast_cancer", tumour_file(1))
    ended(asking, "breast_cancer", finished)
    assert asking.put("/breast_cancer/score/cancel", params={"task_id": finished}).status_code == 409


def test_a_deleted_job_is_gone_with_its_files(asking: httpx.Client, stores: Stores) -> None:
    task = submitted(asking, "breast_cancer", tumour_file(10))
    ended(asking, "breast_cancer", task)
    answer(asking.delete("/breast_cancer/score/tasks", params={"task_id": task}))
    assert result(asking, "breast_cancer", task).status_code == 404
    assert asking.delete("/breast_cancer/score/tasks", params={"task_id": task}).status_code == 404
    if "TIFFIN_JOB_FILES" not in stores.env:
        assert not (Path(stores.env["TIFFIN_JOB_STORE"]) / "files" / task).exists()


@pytest.mark.folder_only
def test_a_job_whose_files_are_lost_fails_and_has_no_result(asking: httpx.Client, stores: Stores) -> None:
    files = Path(stores.env["TIFFIN_JOB_STORE"]) / "files"
    completed = submitted(asking, "breast_cancer", tumour_file(10))
    ended(asking, "breast_cancer", completed)
    shutil.rmtree(files / completed)
    for response in (
        result(asking, "breast_cancer", completed),
        asking.post("/breast_cancer/score/retry", params={"task_id": completed}),
    ):
        assert (response.status_code, response.json()["error"]) == (404, "the files of the task are gone")
    task = submitted(asking, "sentiment", text_file(6_000))
    asked = f"/sentiment/score/status?task_id={task}"
    wait_until(lambda: answer(asking.get(asked))["rows"] is not None, END_SECONDS)
    (planned,) = (files / task).glob("inputs-*")
    shutil.rmtree(planned)
    status = ended(asking, "sentiment", task)
    assert (status["status"], "lost a file" in status["error"]) == ("failed", True)


def test_a_full_store_refuses_jobs(asking: httpx.Client) -> None:
    large = tumour_file(1) + b"\n" * MAX_BYTES
    response = asking.post("/breast_cancer/score/submit", files={"file": ("rows", large)})
    assert (response.status_code, "Retry-After" in response.headers) == (503, True), response.text


def test_metrics_count_jobs_rows_and_chunks(asking: httpx.Client) -> None:
    finished(asking, "segmentation")
    text = asking.get("/metrics").text
    for name in ("tiffin_job_rows_total", "tiffin_job_chunks_total", "tiffin_jobs_finished_total", "tiffin_jobs"):
        assert f'{name}{{model="segmentation"' in text, name


def test_the_document_has_the_routes_of_jobs(asking: httpx.Client) -> None:
    paths = answer(asking.get("/docs.json"))["paths"]
    for model in FILES:
        found = {
            (action, method)
            for action in ("submit", "status", "get", "cancel", "retry", "tasks")
            for method in paths[f"/{model}/score/{action}"]
        }
        assert len(found) == 7


def test_the_page_shows_how_to_submit_and_fetch(asking: httpx.Client, job_server: Server, tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("x5,x12\nmonday,$1.50\n", encoding="utf-8")
    script = blocks(ROOT / "docs" / "jobs.md", "sh")[0].replace("localhost:3000", job_server.address)
    script = script.replace("curl", f'curl -H "X-API-Key: {KEYS[0]}"').replace("sleep 1", "sleep 0.2")
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=END_SECONDS, capture_output=True)
    header, row = (tmp_path / "scored.csv").read_text(encoding="utf-8").splitlines()
    assert header == "class_probability,predicted_class"
    assert 0 < float(row.split(",")[0]) < 1


def test_the_smoke_test_submits_jobs_and_leaves_none(asking: httpx.Client, job_server: Server) -> None:
    before = answer(asking.get("/sentiment/score/tasks"))
    command = [sys.executable, "k8s/smoke.py", job_server.address]
    env = {**os.environ, "API_KEY": KEYS[0]}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=END_SECONDS, check=False)
    assert done.returncode == 0, done.stdout
    assert "200 /sentiment/score/submit" in done.stdout
    assert answer(asking.get("/sentiment/score/tasks")) == before


def test_without_keys_there_is_no_list_of_jobs(store: Path, tmp_path: Path) -> None:
    settings = {"TIFFIN_MODELS": "breast_cancer", "TIFFIN_JOB_STORE": str(tmp_path / "jobs")}
    with started_server(store, settings) as server, httpx.Client(base_url=server.address) as client:
        task = submitted(client, "breast_cancer", tumour_file(1))
        assert client.get("/breast_cancer/score/tasks").status_code == 403
        ended(client, "breast_cancer", task)


def test_without_a_store_there_are_no_jobs(client: httpx.Client) -> None:
    assert client.post("/segmentation/score/submit").status_code == 404
    assert not any("/score/" in path for path in answer(client.get("/docs.json"))["paths"])
