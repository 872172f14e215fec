"""Servers whose certificate a private authority has signed: clients take that authority's certificate."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.processes import free_port
from tests.support import ROOT
from tests.support.servers import serving
from tests.support.stub_server import stub

SCORES = [{"label": "POSITIVE", "score": 0.7}, {"label": "NEGATIVE", "score": 0.3}]
LOCUST = ["locust", "--locustfile", "loadtest/locustfile.py", "--headless", "--only-summary", "--minutes", "0.05"]
# Programs without their last argument, the address of the server, and their exit codes when they cannot verify it.
PROGRAMS = {
    "locust": (["-m", *LOCUST, "--p99", "30", "--reports", os.devnull, "--host"], 2),
    "open-loop": (["-m", "loadtest.open_loop", "--rate", "20", "--seconds", "0.5", "--host"], 2),
    "smoke": (["k8s/smoke.py"], 1),
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("authority")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run([*command.split(), *files], cwd=folder, capture_output=True, timeout=60, check=True)
    with (folder / "certificate.pem").open("a") as both:
        both.write((folder / "key.pem").read_text())
    return folder / "certificate.pem"


@pytest.fixture
def address(certificate: Path) -> Iterator[str]:
    """Yield the address of a server with this certificate."""
    with stub({"predictions": [SCORES]}, certificate=certificate) as address:
        yield address


def run(program: str, address: str, folder: Path, ca_file: str) -> subprocess.CompletedProcess[str]:
    arguments = [str(folder) if part == os.devnull else part for part in PROGRAMS[program][0]]
    env = {**os.environ, "CA_FILE": ca_file}
    command = [sys.executable, *arguments, address]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_unknown_authority_is_refused_and_the_way_on_is_told(program: str, address: str, tmp_path: Path) -> None:
    done = run(program, address, tmp_path, "")
    assert done.returncode == PROGRAMS[program][1], done.stdout + done.stderr
    assert "certificate verify failed" in done.stderr
    assert "CA_FILE=FILE" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_authority_that_is_given_is_trusted(program: str, address: str, tmp_path: Path, certificate: Path) -> None:
    done = run(program, address, tmp_path, str(certificate))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_without_certificates_is_named(program: str, address: str, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for file in ("absent.pem", "empty.pem"):
        done = run(program, address, tmp_path, str(tmp_path / file))
        assert done.returncode == PROGRAMS[program][1], done.stdout + done.stderr
        assert f"CA_FILE={tmp_path / file} is no file of certificates: " in done.stderr
        assert "Traceback" not in done.stderr


def test_make_hands_the_file_over(address: str, certificate: Path) -> None:
    command = ["make", "smoke", f"PYTHON={sys.executable}", f"ADDRESS={address}", f"CA_FILE={certificate}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_locust_asks_a_server_by_grpc_over_tls_beside_plain_http(
    store: Path, certificate: Path, tmp_path: Path
) -> None:
    port, pem = str(free_port()), str(certificate)
    env = {"TIFFIN_GRPC_PORT": port, "TIFFIN_GRPC_TLS_CERTIFICATE": pem, "TIFFIN_GRPC_TLS_KEY": pem}
    given = ["--protocol", "grpc", "--grpc-target", f"https://127.0.0.1:{port}", "--reports", str(tmp_path)]
    with serving(store, env | {"TIFFIN_MODELS": "breast_cancer", "TIFFIN_SHUTDOWN_GRACE_SECONDS": "0"}) as address:
        command = [sys.executable, "-m", *LOCUST, *given, "--ca-file", pem, "--host", address]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
