"""The pipelines hold no logic of their own, and a failed deployment is rolled back.

Tests must not need a cluster, so `kubectl` is a stand-in that records its calls and forwards ports to a real server.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import ROOT, kubectl

GITHUB = ROOT / ".github" / "workflows" / "delivery.yaml"
PAGES = ROOT / ".github" / "workflows" / "pages.yaml"
PLATFORMS = GITHUB.with_name("platforms.yaml")
WINDOWS = ROOT / "docs" / "windows.md"
GITLAB = ROOT / ".gitlab-ci.yml"
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def lines_of(job: dict[str, Any]) -> Iterator[str]:
    """Return every line of shell in a GitHub job."""
    for step in job["steps"]:
        yield from step.get("run", "").splitlines()


def steps() -> Iterator[tuple[str, str]]:
    """Return every line of shell in the pipelines, except those for Windows, which has no make."""
    for name, file in (("github", GITHUB), ("pages", PAGES), ("platforms", PLATFORMS)):
        for job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values():
            if not job["runs-on"].startswith("windows"):
                yield from ((name, line) for line in lines_of(job))
    for job in yaml.safe_load(GITLAB.read_text(encoding="utf-8")).values():
        if isinstance(job, dict):
            yield from (("gitlab", line) for part in ("before_script", "script") for line in job.get(part, []))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        (["vendor.github-workflows"], [GITHUB, PAGES, PLATFORMS]),
        (["vendor.gitlab-ci", "--data-transform", "gitlab-ci"], [GITLAB]),
    ],
    ids=["github", "gitlab"],
)
class TestSchema:
    """Pipelines conform to their schema, and the check notices each that does not."""

    @staticmethod
    def unfit(schema: list[str], files: list[Path]) -> set[str]:
        """Return which files do not conform to a schema."""
        command = [sys.executable, "-m", "check_jsonschema", "--output-format", "json", "--builtin-schema", *schema]
        done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, timeout=60, check=False)
        found = json.loads(done.stdout)
        assert (found["status"], done.returncode) in {("ok", 0), ("fail", 1)}, done.stdout + done.stderr
        return {error["filename"] for error in found["errors"] + found.get("parse_errors", [])}

    def test_they_fit(self, schema: list[str], files: list[Path]) -> None:
        assert self.unfit(schema, files) == set()

    def test_a_misspelt_key_does_not_fit(self, schema: list[str], files: list[Path], tmp_path: Path) -> None:
        broken = [tmp_path / file.name for file in files]
        for file, copy in zip(files, broken, strict=True):
            text = file.read_text(encoding="utf-8")
            copy.write_text(text.replace("timeout-minutes: ", "timeout-minute: ").replace("script:", "scripts:"))
        assert self.unfit(schema, broken) == {str(copy) for copy in broken}


@pytest.mark.parametrize(("pipeline", "line"), list(steps()))
def test_a_step_is_a_target_of_the_makefile(pipeline: str, line: str) -> None:
    assert line.startswith("make ")
    assert line.removeprefix("make ") in TARGETS


def test_windows_runs_the_commands_of_its_page_and_asks_every_model() -> None:
    job = yaml.safe_load(PLATFORMS.read_text(encoding="utf-8"))["jobs"]["windows"]
    # A reader of the page checks readiness and responses by eye; the pipeline has a command for each.
    lines = [line.removesuffix(" &") for line in lines_of(job)]
    ready, smoke = "curl.exe --silent --show-error --fail", r".venv\Scripts\python k8s\smoke.py "
    lines = [line for line in lines if not line.startswith((ready, smoke))]
    page = WINDOWS.read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```(?:powershell|console)$(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    commands = [line.removeprefix("PS> ") for line in blocks.splitlines()]
    assert [line for line in lines if line not in commands] == []
    requests = [line for line in blocks.splitlines() if line.startswith("PS> ")]
    asked = {re.sub(".*localhost:3000/(\\w+)/.*", r"\1", line) for line in requests}
    assert asked == {"breast_cancer", "image", "segmentation", "sentiment"}
    assert [line for line in requests if line.removeprefix("PS> ") not in lines] == []


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_a_pipeline_goes_from_lint_to_deployment(name: str) -> None:
    lines = [line.removeprefix("make ") for pipeline, line in steps() if pipeline == name]
    wanted = ["lint", "test", "image", "audit", "push", "cluster", "deploy"]
    assert [line for line in lines if line in wanted] == wanted


def triggers(pipeline: str) -> list[str]:
    """Return the patterns of the paths that trigger a pipeline, except that of its own file."""
    if pipeline == "github":
        document = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))
        found, own = document[True]["push"]["paths"], GITHUB  # YAML 1.1 reads `on` as true
    else:
        document = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))
        (found,) = [rule["changes"] for rule in document[".application"]["rules"] if "changes" in rule]
        own = GITLAB
    name = own.relative_to(ROOT).as_posix()
    assert name in found
    return [pattern.replace("/**/*", "/**") for pattern in found if pattern != name]


def ingredients() -> set[str]:
    """Return every file that goes into the Bento, the images or their checks."""
    bento = yaml.safe_load((ROOT / "bentofile.yaml").read_text(encoding="utf-8"))
    patterns = [pattern.removeprefix("/") for pattern in bento["include"]]
    generator = (ROOT / "loadtest" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", generator, re.MULTILINE):
        patterns += sources.split()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    patterns += [
        "Makefile",
        "bentofile.yaml",
        "container/*",
        "loadtest/Dockerfile",
        "models/shipped/**/*",
        "pyproject.toml",
    ]
    patterns += re.findall(r"requirements/[\w.-]+", makefile)
    files = {pattern: [file for file in ROOT.glob(pattern) if file.is_file()] for pattern in patterns}
    assert [pattern for pattern, found in files.items() if not found] == []
    return {file.relative_to(ROOT).as_posix() for found in files.values() for file in found}


@pytest.mark.parametrize("pipeline", ["github", "gitlab"])
def test_what_the_images_are_made_of_starts_a_pipeline(pipeline: str) -> None:
    patterns = [pattern.replace("**", "*") for pattern in triggers(pipeline)]  # in fnmatch * matches / too
    missed = [file for file in ingredients() if not any(fnmatch(file, pattern) for pattern in patterns)]
    assert missed == []


def test_both_pipelines_are_started_by_the_same_paths() -> None:
    assert triggers("github") == triggers("gitlab")


# Files whose change needs no new delivery: pages, what makes them, other pipelines, and what is about git alone.
NOT_DELIVERED = ["docs/*", "mkdocs.yml", "requirements/docs.txt", "tests/site/*", ".ci/*", ".github/*", ".gitignore"]


def test_every_file_that_matters_starts_the_pipelines() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    patterns = [pattern.replace("**", "*") for pattern in triggers("github")]
    others = [*patterns, *NOT_DELIVERED, GITLAB.name]
    assert [name for name in listed.splitlines() if not any(fnmatch(name, pattern) for pattern in others)] == []


def test_what_is_delivered_is_tested_on_every_platform() -> None:
    document = yaml.safe_load(PLATFORMS.read_text(encoding="utf-8"))[True]
    pushed = document["push"]["paths"]
    assert document["pull_request"]["paths"] == pushed
    assert set(triggers("github")) - {"docs/ship.jpg"} <= set(pushed)


def test_a_pipeline_is_started_by_paths_that_there_are() -> None:
    assert [pattern for pattern in triggers("github") if not list(ROOT.glob(pattern))] == []


def environment(pipeline: str) -> dict[str, str]:
    """Return what a pipeline sets for `make deploy`: the owner has capitals, and no repository variable is set."""
    if pipeline == "github":
        document = yaml.safe_load(GITHUB.read_text(encoding="utf-8"))
        variables = document["env"] | document["jobs"]["deploy"]["env"]
        known = {
            "github.repository": "Acme-Labs/Tiffin",
            "github.sha": "0123abc",
            "inputs.overlay || 'production'": "production",
        }
        return {
            name: re.sub(r"\$\{\{ (.*?) }}", lambda found: known.get(found[1], ""), value)
            for name, value in variables.items()
        }
    variables = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))["variables"]
    known = {"CI_REGISTRY_IMAGE": "registry.gitlab.com/Acme-Labs/Tiffin", "CI_COMMIT_SHA": "0123abc"}
    return {
        name: re.sub(r"\$(\w+)", lambda found: known.get(found[1], ""), value) for name, value in variables.items()
    } | {"NAMESPACE": ""}


@pytest.mark.parametrize("pipeline", ["github", "gitlab"])
def test_names_are_made_valid_and_empty_variables_count_as_unset(pipeline: str) -> None:
    env = {**os.environ, **environment(pipeline)}
    done = subprocess.run(
        ["make", "--dry-run", "deploy"], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    registry = {"github": "ghcr.io", "gitlab": "registry.gitlab.com"}[pipeline]
    assert f"k8s/deploy.sh 'production' '{registry}/acme-labs/tiffin:0123abc' 'tiffin'" in done.stdout


@pytest.mark.parametrize(
    ("given", "image"),
    [
        ("", "tiffin:latest"),
        ("Tiffin:V1_0", "tiffin:V1_0"),
        ("Registry.example:5000/Team/Tiffin", "registry.example:5000/team/tiffin"),
        ("ghcr.io/Acme/Tiffin:RC1@sha256:0a", "ghcr.io/acme/tiffin:RC1@sha256:0a"),
    ],
)
def test_only_the_name_of_an_image_is_put_in_small_letters(given: str, image: str) -> None:
    command = ["make", "--dry-run", "deploy", f"IMAGE={given}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"'{image}'" in done.stdout


# By value of REGISTRY: the image's name, and the host and user of the login, whose password a cloud's program prints.
REGISTRIES = {
    "europe-west1-docker.pkg.dev/Acme/tiffin/": ("europe-west1-docker.pkg.dev/acme/tiffin/tiffin", "oauth2accesstoken"),
    "12.dkr.ecr.eu-central-1.amazonaws.com": ("12.dkr.ecr.eu-central-1.amazonaws.com/tiffin", "AWS"),
    "acme.azurecr.io": ("acme.azurecr.io/tiffin", "00000000-0000-0000-0000-000000000000"),
    "ghcr.io/Acme-Labs": ("ghcr.io/acme-labs/tiffin", "me"),
    "registry.gitlab.com/acme/other": ("registry.gitlab.com/acme/other/tiffin", "me"),
}


@pytest.mark.parametrize(("pipeline", "registry"), zip(cycle(["github", "gitlab"]), REGISTRIES, strict=False))
def test_an_image_goes_to_any_registry_after_a_login(pipeline: str, registry: str, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    for program in ("docker", "gcloud", "aws", "az"):
        (tmp_path / program).write_text(
            f'#!/bin/sh\necho "{program} $*" >>"{asked}"\n'
            + ('[ "$1" != login ] || cat >>"$0.password"\n' if program == "docker" else f"echo token of {program}\n")
        )
        (tmp_path / program).chmod(0o755)
    env = {**os.environ, **environment(pipeline), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    env |= {"REGISTRY": registry, "REGISTRY_USER": "me", "REGISTRY_PASSWORD": "mine", "BACKEND": "docker"}
    subprocess.run(["make", "push"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    name, user = REGISTRIES[registry]
    lines = asked.read_text(encoding="utf-8").splitlines()
    assert lines[-1] == f"docker push {name}:0123abc"
    # What prints the password runs beside the login that reads it.
    assert f"docker login --username {user} --password-stdin {name.partition('/')[0]}" in lines
    tool = {"oauth2accesstoken": "gcloud", "AWS": "aws", "me": ""}.get(user, "az")
    password = (tmp_path / "docker.password").read_text(encoding="utf-8").strip()
    assert password == (f"token of {tool}" if tool else "mine")
    assert [line.split()[0] for line in lines if not line.startswith("docker ")] == [tool] * bool(tool)


def test_what_has_no_registry_is_not_pushed() -> None:
    env = {**os.environ, "IMAGE": "", "REGISTRY": ""}
    done = subprocess.run(["make", "push"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make push needs the name of your registry" in done.stderr


@pytest.mark.parametrize("given", [{}, {"CLUSTER": "one"}, {"CLOUD": "gke"}, {"CLUSTER": "one", "CLOUD": "other"}])
def test_no_cluster_is_chosen_by_half_of_what_names_it(given: dict[str, str]) -> None:
    env = {**os.environ, "CLOUD": "", "CLUSTER": "", "LOCATION": "", **given}
    done = subprocess.run(["make", "cluster"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make cluster needs CLOUD, CLUSTER and LOCATION" in done.stderr


def test_the_pages_are_published_by_either_pipeline() -> None:
    assert {pipeline for pipeline, line in steps() if line == "make docs"} == {"pages", "gitlab"}


def test_pipelines_hold_secrets_by_name_only() -> None:
    workflow = GITHUB.read_text(encoding="utf-8")
    named = re.findall(r"^\s+\w*(?:PASSWORD|KEY|TOKEN|SECRET)\w*: (.*)$", workflow, re.MULTILINE)
    assert named
    assert all(re.fullmatch(r"\$\{\{ secrets\.\w+ \}\}", value) for value in named)
    assert all(
        value.startswith("$")
        for value in re.findall(
            r"^\s+\w*(?:PASSWORD|KEY|SECRET)\w*: (.*)$", GITLAB.read_text(encoding="utf-8"), re.MULTILINE
        )
    )


@pytest.fixture
def deploy(tmp_path: Path, server: str) -> Any:
    """Deploy to a cluster of `tests.support.kubectl` whose Service forwards to a server; return the result."""

    def run(*arguments: str, port: str = server.rpartition(":")[2], **cluster: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "deploy", "OVERLAY=local", "IMAGE=registry.example/tiffin:1", *arguments],
            cwd=ROOT,
            env=kubectl.install(tmp_path, port=port, **cluster),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def asked(folder: Path) -> list[str]:
    """Return the calls of kubectl, in order."""
    return (folder / "asked").read_text(encoding="utf-8").splitlines()


def test_a_deployment_that_answers_stays(deploy: Any, tmp_path: Path) -> None:
    done = deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "image: registry.example/tiffin:1" in (tmp_path / "applied").read_text(encoding="utf-8")
    assert not any("undo" in line for line in asked(tmp_path))
    assert "200 /sentiment/predict" in done.stdout
    assert "200 /image/predict" in done.stdout
    assert "200 /segmentation/uploadfile" in done.stdout


def test_a_rollout_that_gets_stuck_is_rolled_back(deploy: Any, tmp_path: Path) -> None:
    assert deploy(stuck="tiffin-a").returncode != 0
    undone = [line for line in asked(tmp_path) if "undo" in line]
    assert undone == ["--namespace tiffin rollout undo deployment/tiffin-a --to-revision 3"]


def test_what_cannot_all_be_applied_is_rolled_back(deploy: Any, tmp_path: Path) -> None:
    done = deploy(refuse=True)
    assert done.returncode != 0
    undone = [line for line in asked(tmp_path) if "undo" in line]
    assert undone == ["--namespace tiffin rollout undo deployment/tiffin-a --to-revision 3"]
    assert "200 /" not in done.stdout


def test_a_server_that_answers_wrong_is_rolled_back(deploy: Any, tmp_path: Path) -> None:
    done = deploy(port="1")
    assert done.returncode != 0
    assert any("undo deployment/tiffin-a --to-revision 3" in line for line in asked(tmp_path))
    assert "does not answer" in done.stderr
