"""`make audit` of the built image, with a stand-in for OSV that knows nothing, one that knows a fault, and none."""

from __future__ import annotations

import os
import subprocess

import pytest

from loadtest.processes import free_port
from tests.support import ROOT
from tests.support.osv import stand_in


def audit(url: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OSV_URL": url}
    command = ["make", "audit"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)


def test_an_image_without_known_vulnerabilities_passes() -> None:
    with stand_in() as service:
        done = audit(service.url)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {(query["package"]["ecosystem"].partition(":")[0], query["package"]["name"]) for query in service.asked}
    assert names >= {("PyPI", "pillow"), ("PyPI", "onnxruntime"), ("Debian", "glibc"), ("Debian", "openssl")}


@pytest.mark.parametrize(("ecosystem", "package"), [("PyPI", "pillow"), ("Debian:12", "glibc")])
def test_an_image_with_a_known_vulnerability_fails(ecosystem: str, package: str) -> None:
    with stand_in() as service:
        service.know("X-1", ecosystem, package, "99")
        done = audit(service.url)
    assert done.returncode != 0
    assert f"{ecosystem} {package} " in done.stdout


def test_an_audit_that_reaches_nobody_fails() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = audit(url)
    assert done.returncode != 0
    assert f"the audit failed: {url} is out of reach" in done.stderr
