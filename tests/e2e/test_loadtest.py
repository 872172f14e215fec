"""The image of the load generator, run as by its Job."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from tests.support import ROOT
from tests.support.containers import Container, engine

LOADTEST_IMAGE = os.environ.get("LOADTEST_IMAGE", "tiffin-loadtest:latest")


def run_job(host: str, *more: str, user: str = "1034:1034") -> subprocess.CompletedProcess[str]:
    """Run the Job's container, hardened as in its manifest, against another host."""
    manifest = yaml.safe_load((ROOT / "k8s" / "loadtest" / "job.yaml").read_text(encoding="utf-8"))
    (job,) = manifest["spec"]["template"]["spec"]["containers"]
    security = job["securityContext"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"]["drop"] == ["ALL"]
    values = {entry["name"]: entry["value"] for entry in job["env"]} | {"HOST": host}
    arguments = job["args"]
    for name, value in values.items():
        arguments = [argument.replace(f"$({name})", value) for argument in arguments]
    hardening = [
        "--user",
        user,
        "--read-only",
        "--tmpfs",
        "/tmp",
        "--cap-drop",
        "all",
        "--security-opt",
        "no-new-privileges",
    ]
    return engine("run", "--rm", "--network", "host", *hardening, LOADTEST_IMAGE, *arguments, *more, check=False)


@pytest.mark.parametrize("user", ["1034:1034", "1000680000:0"], ids=["kubernetes", "openshift"])
def test_a_job_that_meets_its_objectives_ends_with_success(container: Container, user: str) -> None:
    done = run_job(container.address, "--minutes", "0.05", "--p99", "60", user=user)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "errors: wanted at most 0, found 0: met" in done.stdout


def test_a_job_that_misses_an_objective_fails(container: Container) -> None:
    done = run_job(container.address, "--minutes", "0.05", "--rate", "1000000")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "rate: wanted at least 1e+06" in done.stdout
