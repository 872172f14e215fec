"""The image: its contents, its few privileges, and that it serves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tomllib
import uuid
from typing import Any

import httpx
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import models
from container.osv import plain
from tests.support import ROOT
from tests.support.clocks import wait_until
from tests.support.containers import Container, engine, hardened

SIZE_BYTES = 500e6
UID = "1034"
JOB_SECONDS = 60
# Packages of the base image, and one that redis needs on its older Python.
UNPINNED = {"pip", "setuptools", "wheel", "async-timeout"}


@pytest.fixture(scope="module")
def facts(image: str) -> dict[str, Any]:
    """Return the engine's description of the image."""
    (found,) = json.loads(engine("image", "inspect", image).stdout)
    return dict(found)


def listed(container: Container, script: str) -> list[str]:
    """Return the lines that a shell script writes in a container."""
    return container.run("sh", "-c", script).stdout.splitlines()


def test_it_takes_at_most_500_megabytes(facts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nthe image takes {facts['Size'] / 1e6:.0f} MB")
    assert facts["Size"] <= SIZE_BYTES


def test_it_becomes_ready_on_one_core(image: str, capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    with hardened(image, cpus="1") as container:
        container.wait_until_ready()
        seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\nready {seconds:.1f} s after the command that starts a container")


def test_its_worker_computes_jobs_that_a_server_took_and_ends_when_told(image: str) -> None:
    volume = f"tiffin-jobs-{uuid.uuid4().hex}"
    # As in compose.yaml, but for the database: the folder is one that the image has, whose owner the volume takes.
    shared = ["--volume", f"{volume}:/var/lib/tiffin", "--env", "TIFFIN_JOB_STORE=/var/lib/tiffin"]
    computing = [*shared, "--entrypoint", '["python", "-m", "serving.jobs.worker"]']
    taking = [*shared, "--env", "TIFFIN_JOB_WORKER=false"]
    try:
        with hardened(image, *taking) as server, hardened(image, *computing) as worker:
            server.wait_until_ready()
            file = {"file": ("texts.csv", b"text\na delight\n")}
            job = httpx.post(f"{server.address}/sentiment/score/submit", files=file).json()["task_id"]
            result = f"{server.address}/sentiment/score/get?task_id={job}"
            try:
                wait_until(lambda: httpx.get(result).status_code == 200, JOB_SECONDS)
            except AssertionError:
                pytest.fail(f"the job was not computed:\n{worker.log()}")
            assert "POSITIVE" in httpx.get(result).text
            engine("stop", "--time", "30", worker.name)
            assert worker.inspect("{{.State.ExitCode}}") == "0"
    finally:
        engine("volume", "rm", volume, check=False)


def test_what_a_start_imports_is_compiled(container: Container) -> None:
    # A read-only root could not keep what the start compiles, which doubles its time.
    modules = "(module.__cached__ for module in sys.modules.values() if getattr(module, '__cached__', None))"
    probe = f"import sys, bentoml, onnxruntime, serving.settings; print(*{modules})"
    cached = container.run("python", "-c", probe).stdout.split()
    assert len(cached) > 100
    assert listed(container, f"for file in {' '.join(cached)}; do test -f $file || echo $file; done") == []


def test_its_labels_name_version_and_revision(facts: dict[str, Any]) -> None:
    labels = facts["Config"]["Labels"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == head.strip()


def test_it_runs_as_its_own_user_without_privileges(container: Container) -> None:
    status = dict(line.split(":\t", 1) for line in listed(container, "cat /proc/1/status"))
    assert set(status["Uid"].split() + status["Gid"].split()) == {UID}
    assert {int(status[name], 16) for name in status if name.startswith("Cap")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


def test_nothing_but_its_temporary_folder_can_be_written(container: Container) -> None:
    assert listed(container, "find / -xdev -writable -not -type l 2>/dev/null; true") == ["/tmp"]


def test_it_could_not_change_its_own_code(image: str) -> None:
    find = "find /app /home /usr -writable -not -type l"
    done = engine("run", "--rm", "--no-healthcheck", "--entrypoint", "sh", image, "-c", find)
    assert done.stdout == ""


def test_it_holds_no_compiler(container: Container) -> None:
    compilers = "cc gcc g++ c++ cpp clang ld make cmake rustc go"
    assert listed(container, f"for name in {compilers}; do command -v $name; done; true") == []


def test_it_holds_no_training_library(container: Container) -> None:
    names = "('torch', 'transformers', 'sklearn', 'skl2onnx', 'pandas', 'scipy')"
    probe = f"import importlib.util as u; print([name for name in {names} if u.find_spec(name)])"
    assert container.run("python", "-c", probe).stdout.strip() == "[]"


def test_it_holds_no_pickle(container: Container) -> None:
    endings = " -o ".join(f"-name '*.{ending}'" for ending in ("pkl", "pickle", "joblib", "pt", "npy", "npz"))
    assert listed(container, rf"find / -xdev -type f \( {endings} \) -not -path '/proc/*' 2>/dev/null; true") == []


def test_its_models_are_those_of_the_project(container: Container) -> None:
    folders = listed(container, "ls $BENTO_PATH/models")
    assert folders == models.names()
    suffixes = listed(container, r"find $BENTO_PATH/models -type f | sed 's/.*\.//; s/.*latest/latest/' | sort -u")
    assert set(suffixes) <= {"onnx", "json", "yaml", "latest"}


def test_its_packages_are_the_pinned_ones(container: Container) -> None:
    lines = (ROOT / "requirements" / "serving.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.partition(" ;")[0].split("==") for line in lines if line and not line.startswith("#"))
    probe = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    installed = dict(line.split() for line in container.run("python", "-c", probe).stdout.splitlines())
    by_name = {plain(name): version for name, version in pinned.items()}
    other = {plain(name): version for name, version in installed.items() if by_name.get(plain(name)) != version}
    assert other.keys() <= UNPINNED


def test_it_sends_no_telemetry(container: Container) -> None:
    # With telemetry on, onnxruntime logs that it cannot keep an identifier.
    assert "telemetry" not in container.log()
    assert listed(container, "echo $ORT_DISABLE_TELEMETRY $BENTOML_DO_NOT_TRACK") == ["1 True"]


def test_its_bill_of_materials_is_valid_and_complete(container: Container) -> None:
    text = (ROOT / "reports" / "sbom.cdx.json").read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    components = {component["bom-ref"] for component in document["components"]}
    probe = "import importlib.metadata as m; [print(f'{d.name}=={d.version}') for d in m.distributions()]"
    assert set(container.run("python", "-c", probe).stdout.split()) <= components
    debian = listed(container, "dpkg-query -W -f 'pkg:deb/debian/${Package}@\\n'")
    assert len(debian) > 50
    assert all(any(name.startswith(package) for name in components) for package in debian)
    learned = {c["name"] for c in document["components"] if c["type"] == "machine-learning-model"}
    assert learned == set(models.names())


def health_command(facts: dict[str, Any]) -> list[str]:
    """Return the command of the image's health check."""
    kind, *command = (facts["Config"].get("Healthcheck") or facts["Healthcheck"])["Test"]
    assert kind == "CMD"
    return list(command)


def test_a_server_that_runs_is_healthy(container: Container, facts: dict[str, Any]) -> None:
    done = container.run(*health_command(facts), check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_container_without_a_server_is_unhealthy(image: str, facts: dict[str, Any]) -> None:
    with hardened(image, "--entrypoint", "sleep", command=["60"]) as container:
        assert container.run(*health_command(facts), check=False).returncode == 1


def test_a_server_that_hangs_is_unhealthy(image: str, facts: dict[str, Any]) -> None:
    with hardened(image) as container:
        container.wait_until_ready()
        container.run("sh", "-c", "kill -STOP -1")  # all but the first process
        assert container.run(*health_command(facts), check=False).returncode == 1


def test_any_user_can_run_it(image: str) -> None:
    # OpenShift runs images as a user that they do not know, in the group 0.
    with hardened(image, "--user", "1000680000:0") as container:
        container.wait_until_ready()
        assert container.run("id", "-u").stdout.strip() == "1000680000"
        command = [sys.executable, "k8s/smoke.py", container.address]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert container.run("python", "-m", "serving.healthcheck", check=False).returncode == 0


def test_it_ends_in_order(image: str) -> None:
    with hardened(image, "--env", "TIFFIN_SHUTDOWN_GRACE_SECONDS=0") as container:
        container.wait_until_ready()
        engine("stop", "--time", "20", container.name)
        assert container.inspect("{{.State.ExitCode}}") == "0"
        assert "cleanup finalized" in container.log()


def test_one_model_can_be_served_alone(image: str) -> None:
    with hardened(image, "--env", "TIFFIN_MODELS=breast_cancer") as container:
        container.wait_until_ready()
        assert httpx.get(f"{container.address}/breast_cancer/info").status_code == 200
        assert httpx.get(f"{container.address}/image/info").status_code == 404


def test_waiting_for_a_redis_that_is_absent_lets_the_server_start(image: str) -> None:
    options = [
        "--rm",
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--no-healthcheck",
        "--env",
        "TIFFIN_REDIS_URL=redis://127.0.0.1:1",
    ]
    done = engine("run", *options, "--entrypoint", "python", image, "-m", "serving.wait_for_redis", "1")
    assert done.stdout.startswith("Redis does not answer after 1 s")
