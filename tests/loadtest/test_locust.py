"""Locust in processes of its own: imported here, it would replace Python's sockets and threads."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from loadtest.messages import MODEL_INFER
from loadtest.processes import free_port
from tests.support import ROOT
from tests.support.servers import serving
from tests.support.stub_server import stub

Done = subprocess.CompletedProcess[str]
COMMAND = [sys.executable, "-m", "locust", "--locustfile", "loadtest/locustfile.py", "--headless", "--only-summary"]
SCORES = [{"label": "POSITIVE", "score": 0.4}, {"label": "NEGATIVE", "score": 0.3}]
RIGHT_SCORES = [{"label": "POSITIVE", "score": 0.7}, {"label": "NEGATIVE", "score": 0.3}]
KUBECTL = """\
#!{python}
import sys
from pathlib import Path
assert sys.argv[1:4] == ["get", "deployment", "tiffin"], sys.argv
asked = Path({asked!r})
asked.touch()
asked.write_text(asked.read_text(encoding="utf-8") + "x")
print(1 if len(asked.read_text(encoding="utf-8")) < 3 else 2, end="")
"""


@pytest.fixture
def locust(tmp_path: Path) -> Callable[..., Done]:
    """Return a function that runs a profile and has its report written to `tmp_path`."""

    def run(*arguments: str, **env: str) -> Done:
        command = [*COMMAND, "--reports", str(tmp_path), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=600, check=False
        )

    return run


def summary(folder: Path) -> Any:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def failures(folder: Path) -> list[str]:
    with (folder / "failures.csv").open(newline="") as file:
        return [row["Error"] for row in csv.DictReader(file)]


def test_a_profile_is_run_judged_and_written_down(locust: Callable[..., Done], server: str, tmp_path: Path) -> None:
    done = locust("--host", server, "--profile", "smoke", "--minutes", "0.07", "--p99", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "p99: wanted at most 30, found" in done.stdout
    folder = tmp_path / "smoke"
    files = {"report.html", "requests.csv", "failures.csv", "history.csv", "summary.json", "chart.png"}
    assert {path.name for path in folder.iterdir()} == files
    assert (folder / "chart.png").read_bytes().startswith(b"\x89PNG")
    found = summary(folder)
    assert found["measured"]["errors"] == 0
    assert found["measured"]["p9999"] >= found["measured"]["p99"] > 0
    assert "response_time_percentile_0.9999" in (folder / "report.html").read_text(encoding="utf-8")
    paths = {f"/{model}/predict" for model in ("breast_cancer", "image", "segmentation", "sentiment")}
    assert found["cache"].keys() <= paths
    with (folder / "requests.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[-1]["Request Count"] == str(found["measured"]["requests"])


def test_a_profile_is_run_by_the_open_inference_protocol(
    locust: Callable[..., Done], server: str, tmp_path: Path
) -> None:
    done = locust("--host", server, "--profile", "smoke", "--minutes", "0.07", "--protocol", "v2-json,v2-binary")
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.removesuffix(" binary") for path in summary(tmp_path / "smoke")["cache"]}
    assert names <= {f"/v2/models/{model}/infer" for model in ("breast_cancer", "image", "segmentation", "sentiment")}


@pytest.fixture(scope="module")
def grpc_server(store: Path) -> Iterator[tuple[str, str]]:
    """Yield the address of a server that asks for a key, and its target of gRPC."""
    port = str(free_port())
    env = {"TIFFIN_GRPC_PORT": port, "TIFFIN_API_KEYS": "secret"}
    with serving(store, env) as address:
        yield address, f"127.0.0.1:{port}"


def test_a_profile_is_run_by_grpc(locust: Callable[..., Done], grpc_server: tuple[str, str], tmp_path: Path) -> None:
    address, target = grpc_server
    profile = ("--host", address, "--profile", "smoke", "--minutes", "0.07", "--protocol", "grpc")
    done = locust(*profile, "--grpc-target", target, LOADTEST_API_KEY="secret")
    assert done.returncode == 0, done.stdout + done.stderr
    calls = {f"{MODEL_INFER} {model}" for model in ("breast_cancer", "image", "segmentation", "sentiment")}
    found = summary(tmp_path / "smoke")
    assert set() != found["cache"].keys() <= calls
    with (tmp_path / "smoke" / "requests.csv").open(newline="") as file:
        assert {row["Type"] for row in csv.DictReader(file)} == {"gRPC", ""}


def test_each_request_has_one_of_several_protocols_and_the_key_and_all_tell_their_hits(
    locust: Callable[..., Done], grpc_server: tuple[str, str], tmp_path: Path
) -> None:
    address, target = grpc_server
    profile = ("--host", address, "--profile", "stress", "--model", "breast_cancer", "--minutes", "0.05")
    given = ("--protocol", "predict,v2-json,v2-binary,grpc", "--grpc-target", target)
    found = {}
    for cache_rate in ("1", "0"):
        done = locust(*profile, *given, "--cache-rate", cache_rate, LOADTEST_API_KEY="secret")
        assert done.returncode == 0, done.stdout + done.stderr
        found[cache_rate] = summary(tmp_path / "stress")
        assert found[cache_rate]["measured"]["errors"] == 0
        assert found[cache_rate]["cache"].keys() == {
            "/breast_cancer/predict",
            "/v2/models/breast_cancer/infer",
            "/v2/models/breast_cancer/infer binary",
            f"{MODEL_INFER} breast_cancer",
        }
    assert found["0"]["measured"]["hit_rate"] == 0
    # The first request for each of the repeated inputs is a miss, and a slow machine sends few others.
    for outcomes in found["1"]["cache"].values():
        assert outcomes["hit"] > 0.1 * sum(outcomes.values())


def test_a_missed_objective_decides_the_exit_code(locust: Callable[..., Done], server: str) -> None:
    done = locust("--host", server, "--profile", "smoke", "--minutes", "0.05", "--p99", "30", "--rate", "1e9")
    assert done.returncode == 1
    assert "rate: wanted at least 1e+09" in done.stdout
    assert "MISSED" in done.stdout


def test_rows_and_files_are_sent_together(locust: Callable[..., Done], server: str, tmp_path: Path) -> None:
    easy = ("--p99", "60", "--rate", "0", "--hit-rate", "0")
    done = locust("--host", server, "--profile", "segmentation", "--minutes", "0.6", *easy)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "segmentation" / "requests.csv").open(newline="") as file:
        rows = {row["Name"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"/segmentation/predict", "/segmentation/uploadfile", "Aggregated"}


def test_pauses_can_be_those_of_the_original(locust: Callable[..., Done], tmp_path: Path) -> None:
    with stub({"predictions": [RIGHT_SCORES]}) as address:
        done = locust("--host", address, "--profile", "sentiment", "--minutes", "0.05", "--pause", "1-3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "only those given are judged" in done.stdout
    # In three seconds each of ten users has time for three requests; without pauses they send thousands.
    assert 0 < summary(tmp_path / "sentiment")["measured"]["requests"] <= 30


def test_pauses_that_cannot_be_are_told(locust: Callable[..., Done]) -> None:
    done = locust("--pause", "3-1")
    assert done.returncode == 2
    assert "argument --pause: 3-1 is no range of seconds" in done.stderr


def test_a_wrong_answer_fails_the_run_and_is_named(locust: Callable[..., Done], tmp_path: Path) -> None:
    with stub({"predictions": [SCORES]}) as address:
        done = locust("--host", address, "--profile", "smoke", "--minutes", "0.05")
    assert done.returncode == 1
    assert failures(tmp_path / "smoke") == ["CatchResponseError('scores sum to 0.7')"]


def test_a_refusal_is_named(locust: Callable[..., Done], tmp_path: Path) -> None:
    with stub({"error": "overloaded", "detail": []}, 503) as address:
        assert locust("--host", address, "--profile", "smoke", "--minutes", "0.05").returncode == 1
    assert failures(tmp_path / "smoke") == ["CatchResponseError('status 503: overloaded')"]


def test_a_refusal_by_grpc_is_named(locust: Callable[..., Done], tmp_path: Path) -> None:
    def refuse(_: bytes, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")

    service, _, method = MODEL_INFER[1:].partition("/")
    handler = grpc.unary_unary_rpc_method_handler(refuse)
    with ThreadPoolExecutor(4) as pool, stub({}) as address:
        server = grpc.server(pool, [grpc.method_handlers_generic_handler(service, {method: handler})])
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        profile = ("--host", address, "--profile", "smoke", "--minutes", "0.05")
        assert locust(*profile, "--protocol", "grpc", "--grpc-target", target).returncode == 1
        server.stop(None).wait()
    assert failures(tmp_path / "smoke") == ["CatchResponseError('code RESOURCE_EXHAUSTED: overloaded')"]


def test_a_server_that_is_not_there_is_told_in_one_line(locust: Callable[..., Done]) -> None:
    done = locust("--host", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if "INFO" not in line] == [
        line
        for line in done.stderr.splitlines()
        if line.endswith("/readyz does not answer: [Errno 111] Connection refused")
    ]


def test_a_model_that_is_not_served_is_told(locust: Callable[..., Done], server: str) -> None:
    done = locust("--host", server, "--model", "iris")
    assert done.returncode == 2
    assert "has no model iris, it has breast_cancer, image, segmentation, sentiment" in done.stderr


def test_a_protocol_that_there_is_not_is_told(locust: Callable[..., Done]) -> None:
    done = locust("--protocol", "predict,v3")
    assert done.returncode == 2
    assert "there is no protocol v3, there are predict, v2-json, v2-binary, grpc" in done.stderr


def test_a_port_without_grpc_is_told(locust: Callable[..., Done], server: str) -> None:
    target = f"127.0.0.1:{free_port()}"
    done = locust("--host", server, "--protocol", "grpc", "--grpc-target", target)
    assert done.returncode == 2
    assert f"{target} does not answer, where gRPC is expected" in done.stderr


def test_a_key_that_is_missing_is_told(locust: Callable[..., Done], grpc_server: tuple[str, str]) -> None:
    done = locust("--host", grpc_server[0], "--profile", "smoke", "--minutes", "0.05")
    assert done.returncode == 2
    assert "/breast_cancer/info answers 401" in done.stderr


def test_workers_tell_the_master_their_hits(locust: Callable[..., Done], server: str, tmp_path: Path) -> None:
    port = str(free_port())
    command = [*COMMAND[:5], "--worker", "--master-port", port]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    try:
        master = ("--master", "--master-bind-port", port, "--expect-workers", "2")
        done = locust(*master, "--host", server, "--profile", "smoke", "--minutes", "0.05", "--p99", "30")
        assert done.returncode == 0, done.stdout + done.stderr
        assert [worker.wait(30) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    found = summary(tmp_path / "smoke")
    assert found["measured"]["requests"] > 0
    assert sum(sum(outcomes.values()) for outcomes in found["cache"].values()) == found["measured"]["requests"]


def test_steps_tell_the_last_good_rate(locust: Callable[..., Done], tmp_path: Path) -> None:
    with stub({"predictions": [RIGHT_SCORES]}, seconds=0.05, together=1) as address:
        done = locust("--host", address, "--profile", "steps", "--minutes", "0.55", "--p99", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    (note,) = summary(tmp_path / "steps")["notes"]
    assert note in done.stdout
    assert re.fullmatch(
        r"last good rate: .* with 1 users; with 2 users errors: wanted at most 0, found .*: MISSED", note
    )


def test_steps_end_at_once_where_nothing_is_good(locust: Callable[..., Done], tmp_path: Path) -> None:
    with stub({"error": "broken", "detail": []}, 500) as address:
        done = locust("--host", address, "--profile", "steps", "--minutes", "0.55")
    assert done.returncode == 1
    (note,) = summary(tmp_path / "steps")["notes"]
    assert note == "no good rate: with 1 users errors: wanted at most 0, found 1: MISSED"


def test_stress_ends_when_the_autoscaler_acts(locust: Callable[..., Done], server: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(KUBECTL.format(python=sys.executable, asked=str(tmp_path / "asked")))
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    profile = ("--host", server, "--profile", "stress", "--deployment", "tiffin", "--minutes", "2")
    # The load itself is not looked at here: without pauses it would keep all processors busy.
    done = locust(*profile, "--pause", "1", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    (note,) = summary(tmp_path / "stress")["notes"]
    assert note.startswith("tiffin went from 1 to 2 ready replicas after 1")
