"""A start that fails prints one line that says what to do, and nothing else: tested on the real `bentoml serve`."""

from __future__ import annotations

import ast
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import models
from loadtest.processes import free_port, link_folder
from serving.bento import start
from serving.inference.instruction_set import instruction_set
from tests.support import ROOT
from tests.support.metrics import metric
from tests.support.processes import run_python, train
from tests.support.servers import QUIET, Server, started_server

START_SECONDS = 120


def serve(
    home: Path,
    env: Mapping[str, str] | None = None,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    project: Path = ROOT,
) -> str:
    """Run a server that fails to start; return all that it prints."""
    command = [sys.executable, "-m", "bentoml", "serve", "service:Tiffin", "--host", host]
    done = subprocess.run(
        [*command, "--port", str(port or free_port())],
        cwd=project,
        env={**os.environ, "BENTOML_HOME": str(home), **QUIET, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.fixture
def taken_port() -> Iterator[int]:
    """Yield a port on which another socket listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_that_is_taken(tmp_path: Path, taken_port: int) -> None:
    assert serve(tmp_path, port=taken_port) == (
        f"port {taken_port} is taken: choose another one by PORT (make serve) or --port (bentoml serve)\n"
    )


def test_a_port_that_is_taken_by_default(monkeypatch: pytest.MonkeyPatch, taken_port: int) -> None:
    monkeypatch.setattr(start, "PORT", taken_port)
    monkeypatch.setattr(start, "bentoml_command", lambda: ("serve", {"host": "127.0.0.1", "port": None}))
    monkeypatch.delenv("BENTOML_CONFIG", raising=False)
    with pytest.raises(SystemExit, match=f"port {taken_port} is taken"):
        start.prepare([])


def test_a_port_that_bentomls_configuration_may_change_is_left_to_bentoml(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken_port: int
) -> None:
    monkeypatch.setattr(start, "PORT", taken_port)
    monkeypatch.setattr(start, "bentoml_command", lambda: ("serve", {"host": None, "port": None}))
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    monkeypatch.setenv("BENTOML_CONFIG", "config.yaml")
    start.prepare([])


def test_a_port_whose_last_server_has_just_ended_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            listener.accept()[0].close()  # closed by the server first, so its port stays in TIME_WAIT for a minute
            client.recv(1)
    start.check_port("127.0.0.1", port)


def test_a_port_that_does_not_exist(tmp_path: Path) -> None:
    assert serve(tmp_path, port=70_000) == "port 70000 does not exist: choose one from 1 to 65535\n"


def test_an_address_that_the_machine_does_not_have(tmp_path: Path) -> None:
    said = serve(tmp_path, host="192.0.2.1")  # reserved for documentation (RFC 5737)
    assert said == "this machine has no address 192.0.2.1: choose another one by --host\n"


def test_every_bad_setting_has_a_line(tmp_path: Path) -> None:
    bad = {
        "TIFFIN_WORKERS": "0",
        "TIFFIN_TIMEOUT_SECONDS": "soon",
        "TIFFIN_LINGER_SECONDS": "2",
        "TIFFIN_ACCESS_LOG": "perhaps",
        "TIFFIN_REDIS_URL": "redis://user:hid/den@redis",
    }
    said = serve(tmp_path, bad).splitlines()
    (redis,) = [line for line in said if line.startswith("TIFFIN_REDIS_URL: must be an address such as ")]
    assert "hid" not in redis
    assert [line for line in said if line != redis] == [
        "TIFFIN_WORKERS=0: must be a whole number from 1 on, up to 1024",
        "TIFFIN_TIMEOUT_SECONDS=soon: must be a number greater than 0, up to 86400",
        "TIFFIN_LINGER_SECONDS=2: must be a number from 0 on, up to 1",
        "TIFFIN_ACCESS_LOG=perhaps: must be true or false",
    ]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TIFFIN_MODELS", "sentiment,nonsense", f"no model 'nonsense'; models/ has {', '.join(models.names())}"),
        ("TIFFIN_MODELS", ",", f"names no model; models/ has {', '.join(models.names())}"),
        ("TIFFIN_RATE_LIMIT", "often", "must be a number of requests and a time, such as 100/minute"),
        ("TIFFIN_MAX_BATCH", "two\nlines", "must be a whole number from 1 on"),
        ("TIFFIN_TIMEOUT_SECONDS", "inf", "must be a number greater than 0, up to 86400"),
        ("TIFFIN_API_KEYS_FILE", "absent", "absent cannot be read: No such file or directory"),
    ],
)
def test_a_bad_setting_tells_its_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        start.read_settings()
    shown = value if value.isprintable() else repr(value)
    assert ended.value.code == f"{name}={shown}: {said}"


@pytest.mark.parametrize(("command", "lines"), [("serve", 1), ("build", 1), (None, 0)])
def test_old_names_are_told_once_and_by_no_worker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str | None, lines: int
) -> None:
    monkeypatch.setattr(start, "bentoml_command", lambda: (command, {}))
    monkeypatch.setenv("MODELS", "image")
    monkeypatch.setenv("REDIS_URL", "redis://user:hidden@redis")
    assert start.read_settings().models == ["image"]
    said = "REDIS_URL, MODELS: old names of TIFFIN_REDIS_URL, TIFFIN_MODELS, which are to be used instead\n"
    assert capsys.readouterr().err == said * lines


@pytest.mark.parametrize(
    "url", ["http://user:hidden@redis", "redis://user:hid/den@redis", "redis://:hidden@redis?db=a"]
)
def test_a_bad_address_of_redis_is_not_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TIFFIN_REDIS_URL", url)
    with pytest.raises(SystemExit) as ended:
        start.read_settings()
    said = str(ended.value.code)
    assert said.startswith("TIFFIN_REDIS_URL: must be an address such as redis://host:6379/0, rediss://host (TLS), ")
    assert "\n" not in said
    assert "hid" not in said


@pytest.fixture
def project_without_models(tmp_path: Path) -> Path:
    """Copy the project without its shipped models; return the folder."""
    project = tmp_path / "project"
    for folder in ("models", "serving", "requirements"):
        # With the compiled modules, which would take longer to make again than all else here.
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("shipped"))
    for file in ("service.py", "bentofile.yaml", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / file, project)
    shutil.copy(ROOT / "serving" / "bento" / "shipped.py", project / "serving" / "bento")
    return project


def test_a_model_that_the_store_lacks(tmp_path: Path, project_without_models: Path) -> None:
    home = tmp_path / "home"
    assert serve(home, {"TIFFIN_MODELS": "segmentation"}, project=project_without_models) == (
        f"the model store in {home} has no segmentation: make it with python -m training segmentation\n"
    )


def test_a_bento_of_a_model_that_the_store_lacks(tmp_path: Path, project_without_models: Path) -> None:
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build"],
        cwd=project_without_models,
        env={**os.environ, "BENTOML_HOME": str(home), "TIFFIN_MODELS": "segmentation"},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"the model store in {home} has no segmentation: make it with python -m training segmentation\n",
    )


def preflight(home: Path) -> subprocess.CompletedProcess[str]:
    """Run the checks that come before `bentoml serve`, which makes its home before it imports the service."""
    return run_python(home, "-m", "serving.bento.start")


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = preflight(tmp_path / "file" / "home")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"cannot write to BentoML's home {tmp_path / 'file' / 'home'} (Not a directory): "
        "set BENTOML_HOME to a folder of yours\n"
    )


def test_a_home_that_can_be_made_is_made(tmp_path: Path) -> None:
    done = preflight(tmp_path / "new" / "home")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert {path.name for path in (tmp_path / "new" / "home").iterdir()} == set(start.FOLDERS)


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", failing(errno.ENOSPC))
    with pytest.raises(SystemExit) as ended:
        start.check_home()
    assert ended.value.code == (
        f"no room on the disk of {tmp_path}, or of temporary files in {tempfile.gettempdir()}: "
        "free some, or set BENTOML_HOME to a folder on another disk"
    )


def test_a_home_with_models_that_can_only_be_read_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    start.check_home()
    monkeypatch.setattr(tempfile, "TemporaryFile", failing(errno.EROFS))
    start.check_home()


def failing(number: int) -> Any:
    """Return a function that raises OSError with this errno."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("module", ["service", "training.__main__"])
def test_an_old_python(module: str) -> None:
    source = (ROOT / module.replace(".", os.sep)).with_suffix(".py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 8))  # must parse, for the check of the version to run
    script = f"import sys; sys.version_info = (3, 10, 4); import {module}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr
        == "Tiffin needs Python 3.11 or newer, this is 3.10: make the virtual environment with a newer one\n"
    )


def test_no_model_is_missed_outside_of_bentomls_commands() -> None:
    start.prepare(["absent"])


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        shutil.Error([("model.onnx", "copy", f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}")]),
    ],
    ids=["quota", "folder"],
)
def test_a_shipped_model_for_which_there_is_no_room(fault: OSError) -> None:
    with pytest.raises(SystemExit, match=r"^no room on the disk of "), start.store_faults():
        raise fault


@pytest.fixture(scope="module")
def renamed(store: Path) -> Iterator[Server]:
    """Start a server with two workers, configured by old variable names and by a new one for its model."""
    env = {"MODELS": "segmentation", "WORKERS": "2", "SESSION_THREADS": "1"}
    with started_server(store, env | {"TIFFIN_MODEL__SEGMENTATION__MAX_BATCH": "1"}) as server:
        yield server


def test_a_server_of_several_workers_tells_old_names_in_one_line(renamed: Server) -> None:
    lines = [line for line in renamed.log.read_text(encoding="utf-8").splitlines() if "old name" in line]
    assert lines == [
        "MODELS, WORKERS, SESSION_THREADS: old names of TIFFIN_MODELS, TIFFIN_WORKERS, TIFFIN_SESSION_THREADS, "
        "which are to be used instead"
    ]


def test_a_model_computes_in_batches_of_its_own_size(renamed: Server) -> None:
    body = {"data": [{"x91": row / 10} for row in range(5)]}
    assert httpx.post(f"{renamed.address}/segmentation/predict", json=body, timeout=30).status_code == 200
    text = httpx.get(f"{renamed.address}/metrics", timeout=30).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in ("tiffin_batch_items_count", "tiffin_batch_items_sum")
    }
    assert found["tiffin_batch_items_count"] == found["tiffin_batch_items_sum"] >= 5


@pytest.fixture(scope="module")
def shared_home(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the BentoML home of the servers in `beside`."""
    home = tmp_path_factory.mktemp("home")
    link_folder(home / "models", store / "models")
    return home


@pytest.fixture(scope="module")
def beside(store: Path, shared_home: Path) -> Iterator[tuple[Server, Server]]:
    """Start two servers with one BentoML home, the second after the first has counted requests."""
    env = {
        "TIFFIN_MODELS": "segmentation",
        "TIFFIN_SESSION_THREADS": "1",
        "BENTOML_HOME": str(shared_home),
    }
    limited = {"TIFFIN_RATE_LIMIT": "2/hour", "FORWARDED_ALLOW_IPS": "*"}
    with started_server(store, env | limited) as first:
        for i in range(4):
            headers = {"X-Forwarded-For": f"192.0.2.{i}"}
            httpx.get(f"{first.address}/segmentation/info", headers=headers, timeout=30)
        with started_server(store, env) as second:
            yield first, second
    assert not list(shared_home.glob("metrics-*"))


def test_a_server_says_what_it_serves_and_on_what(beside: tuple[Server, Server]) -> None:
    for server in beside:
        text = server.log.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines() if line[:1] == "{"]
        (line,) = [line for line in lines if line["logger"] == "tiffin.start"]
        (tag,) = line["models"]
        assert tag.startswith("segmentation:")
        assert (line["workers"], line["session_threads"], line["instruction_set"]) == (1, 1, instruction_set())


def counted(server: Server) -> dict[tuple[str, str], float]:
    """Return the number of requests that a server has counted, by route and status."""
    text = httpx.get(f"{server.address}/metrics", timeout=30).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        (sample.labels["route"], sample.labels["status"]): sample.value
        for sample in samples
        if sample.name == "tiffin_requests_total"
    }


def test_a_server_keeps_its_metrics_when_another_one_of_its_home_starts(beside: tuple[Server, Server]) -> None:
    first, second = map(counted, beside)
    assert sum(count for (route, _), count in first.items() if route == "/segmentation/info") == 4
    assert {route for route, _ in second} <= {"/readyz", "/metrics"}


def test_a_server_of_one_worker_writes_no_files_of_metrics(beside: tuple[Server, Server], shared_home: Path) -> None:
    for server in beside:
        assert metric(server.address, "tiffin_requests_total", route="/readyz") >= 1
        assert metric(server.address, "process_resident_memory_bytes") > 0
    assert not any(shared_home.glob("**/*.db"))


def test_a_client_does_not_choose_its_address(beside: tuple[Server, Server]) -> None:
    first = beside[0]
    assert counted(first)["/segmentation/info", "429"] == 2
    assert "FORWARDED_ALLOW_IPS has no effect: set TIFFIN_TRUSTED_PROXIES" in first.log.read_text(encoding="utf-8")


def test_a_home_that_can_only_be_read_has_its_metrics_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home").touch()
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    start.metrics_folder.cache_clear()
    folder = Path(start.metrics_folder())
    assert folder.is_dir()
    assert folder.parent == Path(tempfile.gettempdir())
    folder.rmdir()
    start.metrics_folder.cache_clear()


def test_training_with_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    done = train(tmp_path / "home", "segmentation")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"cannot write to BentoML's home {tmp_path / 'home'} (")
    assert done.stderr.count("\n") == 1


def test_the_models_of_an_images_bento_are_found_in_bentomls_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, own = tmp_path / "bento", tmp_path / "home"
    (packed / "models" / "sentiment" / "tag").mkdir(parents=True)
    monkeypatch.setenv("BENTOML_HOME", str(own))
    monkeypatch.setenv("BENTO_PATH", str(packed))
    for _ in range(2):  # a container that is started again has the links
        start.link_packed_models()
        assert (own / "models" / "sentiment" / "tag").is_dir()
    monkeypatch.delenv("BENTO_PATH")
    start.link_packed_models()
