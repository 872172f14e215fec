"""k8s/deploy.sh applies the image that it is given, whatever image the overlay sets, or nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support import kubectl
from tests.support.manifests import K8S

IMAGE = "registry.example/team/tiffin:9.9"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
OVERLAYS = {
    "production": ["kustomization.yaml"],
    "production-jobs": ["kustomization.yaml"],
    "canary": ["stable/kustomization.yaml", "canary/kustomization.yaml"],
}
# What overlays may set of the image instead of their placeholder.
IMAGE_SETTINGS = {
    "tag": "newTag: 0.1.0",
    "name": "newName: registry.example:5000/other/name",
    "name-and-tag": "newName: registry.example/team/tiffin\n    newTag: 0.1.0",
    "digest": f"digest: {DIGEST}",
    "name-and-digest": f"newName: registry.example/team/tiffin\n    digest: {DIGEST}",
}

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def k8s(tmp_path: Path) -> Path:
    """Return a copy of k8s/ whose smoke test passes without a server."""
    shutil.copytree(K8S, tmp_path / "project" / "k8s")
    copy = tmp_path / "project" / "k8s"
    (copy / "smoke.py").write_text("")
    return copy


@pytest.fixture
def deploy(tmp_path: Path, k8s: Path) -> Callable[..., Done]:
    """Return a function that runs the copy's deploy.sh against a cluster that accepts everything."""

    def run(*arguments: str) -> Done:
        env = kubectl.install(tmp_path, kustomize=str(shutil.which("kubectl")))
        command = [str(k8s / "deploy.sh"), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)

    return run


def set_image(k8s: Path, overlay: str, setting: str) -> None:
    """Replace the setting of the image in the kustomizations of an overlay."""
    for name in OVERLAYS[overlay]:
        file = k8s / "overlays" / overlay / name
        before, _, after = file.read_text(encoding="utf-8").partition("newName: ")
        after = after.partition("newTag: ")[2]
        file.write_text(before + setting + "\n" + after.partition("\n")[2], encoding="utf-8")


def applied(folder: Path) -> dict[str, set[str]]:
    """Return the images that were applied, by name of the container."""
    found: dict[str, set[str]] = {}
    for manifest in yaml.safe_load_all((folder / "applied").read_text(encoding="utf-8")):
        pod = manifest["spec"]["template"]["spec"] if manifest["kind"] == "Deployment" else {}
        for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
            found.setdefault(container["name"], set()).add(container["image"])
    return found


@pytest.mark.parametrize("setting", IMAGE_SETTINGS)
@pytest.mark.parametrize("overlay", ["production", "canary"])
def test_the_image_asked_for_is_deployed(
    deploy: Callable[..., Done], k8s: Path, tmp_path: Path, overlay: str, setting: str
) -> None:
    set_image(k8s, overlay, IMAGE_SETTINGS[setting])
    done = deploy(overlay, IMAGE)
    assert done.returncode == 0, done.stderr
    found = applied(tmp_path)
    assert found.pop("redis") == {"redis:7"}
    assert found == {name: {IMAGE} for name in found}
    assert found.keys() == ({"tiffin", "wait-for-redis"} if overlay == "production" else {"tiffin"})
    assert list(k8s.parent.glob(".cache/*")) == []


@pytest.mark.parametrize("overlay", ["canary-gateway-api", "course", "local-autoscaling", "queue"])
def test_an_overlay_gives_its_servers_the_image_asked_for(
    deploy: Callable[..., Done], tmp_path: Path, overlay: str
) -> None:
    done = deploy(overlay, IMAGE)
    assert done.returncode == 0, done.stderr
    assert applied(tmp_path)["tiffin"] == {IMAGE}


def test_the_workers_of_jobs_get_the_image_whatever_the_overlay_calls_theirs(
    deploy: Callable[..., Done], k8s: Path, tmp_path: Path
) -> None:
    set_image(k8s, "production-jobs", IMAGE_SETTINGS["name"])
    done = deploy("production-jobs", IMAGE)
    assert done.returncode == 0, done.stderr
    found = applied(tmp_path)
    assert found["tiffin"] == found["worker"] == {IMAGE}


@pytest.mark.parametrize(
    "image",
    [
        "tiffin:2",
        "localhost:5000/tiffin:2",
        f"localhost:5000/team/tiffin@{DIGEST}",
        f"registry.example/tiffin:2.0@{DIGEST}",
        "registry.example/renamed:V2_0",
    ],
)
def test_every_form_of_an_image_is_deployed(deploy: Callable[..., Done], tmp_path: Path, image: str) -> None:
    done = deploy("local", image)
    assert done.returncode == 0, done.stderr
    assert applied(tmp_path)["tiffin"] == {image}


@pytest.mark.parametrize(
    "image", ["", "registry.example/tiffin", "localhost:5000/tiffin", "registry.example/Team/tiffin:2", "tiffin:2 x"]
)
def test_what_names_no_version_is_refused(deploy: Callable[..., Done], tmp_path: Path, image: str) -> None:
    assert deploy("local", image).returncode != 0
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("kustomization", "complaint"),
    [
        ("resources: [scorer.yaml]", "has no container tiffin"),
        ("resources: [../../base, scorer.yaml]", "has the image tiffin:0.1.0 besides"),
    ],
)
def test_an_overlay_that_keeps_another_image_is_not_applied(
    deploy: Callable[..., Done], k8s: Path, tmp_path: Path, kustomization: str, complaint: str
) -> None:
    overlay = k8s / "overlays" / "local"
    (overlay / "kustomization.yaml").write_text(kustomization)
    scorer = {"apiVersion": "example.com/v1", "kind": "Scorer", "metadata": {"name": "nightly"}}
    (overlay / "scorer.yaml").write_text(yaml.safe_dump(scorer | {"spec": {"image": "tiffin:0.1.0"}}))
    done = deploy("local", IMAGE)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert not (tmp_path / "applied").exists()


def test_an_overlay_that_does_not_render_is_not_applied(deploy: Callable[..., Done], tmp_path: Path) -> None:
    assert deploy("absent", IMAGE).returncode != 0
    assert not (tmp_path / "applied").exists()


def test_the_namespace_is_that_of_the_overlays_unless_another_is_named(
    deploy: Callable[..., Done], tmp_path: Path
) -> None:
    for namespace in ("", "staging"):
        assert deploy("local", IMAGE, namespace).returncode == 0
    asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
    assert [line for line in asked if line.endswith("apply --filename -")] == [
        "--namespace tiffin apply --filename -",
        "--namespace staging apply --filename -",
    ]
