"""The steps of each job of the pipelines pass in a container of its runner's kind, from a clone of the last commit.

They are built as images, which every engine can do: a step is a line of the Dockerfile.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT

ENGINE = os.environ.get("BACKEND") or "docker"
# By a runner's name in the pipelines: what its image is made of. GitHub's has sudo, node and kubectl; its Python comes
# by actions/setup-python.
RUNNERS = {
    "ubuntu-24.04": """\
FROM docker.io/library/python:3.11-bookworm
COPY --from=docker.io/library/node:22-bookworm-slim /usr/local/ /usr/local/
COPY --from=registry.k8s.io/kubectl:v1.33.4 /bin/kubectl /usr/local/bin/kubectl
RUN apt-get update --quiet && apt-get install --yes --no-install-recommends sudo
""",
    "python:3.11-bookworm": "FROM docker.io/library/python:3.11-bookworm\n",
}
PYTHON = "3.11"
# Runners that no container here is like: other processors and systems.
ELSEWHERE = {"ubuntu-24.04-arm", "macos-14", "windows-2025"}
# Steps that are left out, and what each would ask.
SERVICES = {
    "make image": "a container engine; `make image` itself is a step of this project's other checks",
    "make audit": "the list of what `make image` has built, and the database of vulnerabilities at osv.dev",
    "make push": "a registry",
    "make cluster": "a cloud",
    "make deploy": "a cluster",
}
# What a pipeline is told. Variables and secrets of the repository are not set.
GITHUB = {
    "github.repository": "Acme/tiffin",
    "github.server_url": "https://github.com",
    "github.sha": "0123abc",
    "inputs.overlay || 'production'": "production",
    "steps.pages.outputs.base_url": "https://acme.github.io/tiffin",
}
GITLAB = {
    "CI_COMMIT_SHA": "0123abc",
    "CI_PAGES_URL": "https://acme.gitlab.io/tiffin",
    "CI_PROJECT_URL": "https://gitlab.com/acme/tiffin",
    "CI_REGISTRY_IMAGE": "registry.gitlab.com/acme/tiffin",
    "CI_REGISTRY_PASSWORD": "",
    "CI_REGISTRY_USER": "",
    "CI_SERVER_URL": "https://gitlab.com",
}


@dataclass(frozen=True)
class Job:
    """A job: its steps, lines of shell with the variables that they get, and the paths of what it hands on."""

    name: str
    runner: str
    minutes: int
    steps: list[tuple[str, dict[str, str]]]
    results: list[str]

    @property
    def runnable(self) -> list[tuple[str, dict[str, str]]]:
        """The steps that need no service."""
        return [step for step in self.steps if step[0] not in SERVICES]


def told(value: object, matrix: dict[str, str]) -> str:
    """Return a value with GitHub's expressions replaced; raise KeyError for one that is not known here."""
    known = GITHUB | {f"matrix.{name}": chosen for name, chosen in matrix.items()}

    def replace(found: re.Match[str]) -> str:
        return "" if found[1].startswith(("vars.", "secrets.", "github.actor")) else known[found[1]]

    return re.sub(r"\$\{\{ (.*?) }}", replace, str(value))


def github_jobs(file: Path) -> Iterator[Job]:
    """Yield the jobs of a workflow, one for each choice of its matrix, with their lines of shell."""
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, job in document["jobs"].items():
        choices = {key: found for key, found in job.get("strategy", {}).get("matrix", {}).items() if key != "include"}
        for values in itertools.product(*choices.values()):
            matrix = dict(zip(choices, values, strict=True))
            yield github_job(f"{file.stem}-{name}", document.get("env", {}), job, matrix)


def github_job(name: str, common: dict[str, str], job: dict[str, Any], matrix: dict[str, str]) -> Job:
    """Return a job of a workflow as one choice of its matrix runs it."""
    runner = told(job["runs-on"], matrix)
    steps, results = [], []
    for step in job["steps"]:
        env = common | job.get("env", {}) | step.get("env", {})
        if "run" in step:
            steps.append((step["run"], {key: told(value, matrix) for key, value in env.items()}))
        if step.get("uses", "").startswith(("actions/upload-artifact@", "actions/upload-pages-artifact@")):
            results.append(step["with"]["path"])
        if step.get("uses", "").startswith("actions/setup-python@") and runner in RUNNERS:
            assert told(step["with"]["python-version"], matrix) == PYTHON
    return Job(name, runner, job["timeout-minutes"], steps, results)


def gitlab_jobs() -> Iterator[Job]:
    """Yield the jobs of GitLab's pipeline."""
    document = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text(encoding="utf-8"))
    for name, job in document.items():
        if isinstance(job, dict) and "script" in job:
            env = document["variables"] | job.get("variables", {})
            env = {key: re.sub(r"\$(\w+)", lambda found: GITLAB[found[1]], value) for key, value in env.items()}
            runner = job.get("image", document["default"]["image"])
            results = job.get("artifacts", {}).get("paths", [])
            steps = [(line, env) for line in job["script"]]
            yield Job(f"gitlab-{name}", runner, int(job["timeout"].split()[0]), steps, results)


WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
JOBS = [*itertools.chain.from_iterable(map(github_jobs, WORKFLOWS)), *gitlab_jobs()]
HERE = [job for job in JOBS if job.runner in RUNNERS and job.runnable]


def dockerfile(job: Job) -> str:
    """Return a Dockerfile that runs the steps of a job, as its runner's shell would, and looks for its results."""
    lines = [
        'SHELL ["/bin/bash", "-e", "-o", "pipefail", "-c"]',
        "WORKDIR /builds/acme/tiffin",
        "COPY . .",
        "ENV CI=true",
    ]
    for command, env in job.runnable:
        assert "\n" not in command
        exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in env.items())
        lines.append(f"RUN {f'export {exported}; ' if exported else ''}{command}")
    if job.runnable == job.steps:
        lines += [f"RUN test -e {shlex.quote(path)}" for path in job.results]
    # The image is thrown away, and what is not in it need not be written.
    lines += ["WORKDIR /", "RUN rm -rf /builds"]
    return RUNNERS[job.runner] + "\n".join(lines) + "\n"


def test_every_runner_is_known() -> None:
    assert {job.runner for job in JOBS} == RUNNERS.keys() | ELSEWHERE


def test_only_steps_of_pipelines_are_left_out() -> None:
    assert {command for job in JOBS for command, _ in job.steps} >= SERVICES.keys()


@pytest.mark.parametrize("job", HERE, ids=lambda job: job.name)
def test_the_steps_of_a_job_pass(job: Job, tmp_path: Path) -> None:
    clone, tag = tmp_path / "clone", f"tiffin-pipeline:{job.name}"
    subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, clone], check=True)
    command = [ENGINE, "build", "--tag", tag, "--file", "-", str(clone)]
    if ENGINE == "podman":
        command[2:2] = ["--format", "docker", "--layers=false"]
    try:
        done = subprocess.run(
            command,
            input=dockerfile(job),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60 * job.minutes,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-20_000:]
    finally:
        subprocess.run([ENGINE, "image", "rm", "--force", tag], stdout=subprocess.DEVNULL, check=False)
