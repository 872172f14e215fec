"""The manifests as kustomize renders them: each overlay, each component on the base, and components combined."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support import ROOT

K8S = ROOT / "k8s"

Manifest = dict[str, Any]

# The kinds that run pods.
WORKLOADS = ("Deployment", "Job", "StatefulSet")

OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
# By name: a folder to render, and the components added to it.
RENDERS: dict[str, tuple[str, list[str]]] = {name: (f"overlays/{name}", []) for name in OVERLAYS}
RENDERS["loadtest"] = ("loadtest", [])
RENDERS["scoring-job"] = ("scoring/job", [])
RENDERS["scoring-spark"] = ("scoring/spark", [])
RENDERS |= {f"gateway-{name}": (f"gateway/{name}", []) for name in ("gateway-api", "http-add-on", "istio")}
# Components that change what another one adds, after which they come.
AFTER = {
    "load-balancer": "network-policy",
    "model-volume-host": "model-volume",
    "monitoring-mesh": "monitoring",
    "scale-to-zero": "autoscaling-keda",
    "scale-to-zero-http": "gateway-api",
}
# Jobs add to what others bring, and the namespace is that of all.
LAST = ["jobs", "jobs-keda", "namespace"]
RENDERS |= {f"base+{name}": ("base", [AFTER[name], name] if name in AFTER else [name]) for name in COMPONENTS}
TOGETHER = [*(name for name in COMPONENTS if name not in ("openshift", *AFTER, *LAST)), *sorted(AFTER), *LAST]
# By the metrics of a mesh, and by a proxy that takes an autoscaler's place.
SCALED_TO_ZERO = ("scale-to-zero", "scale-to-zero-http")
RENDERS["base+all"] = (
    "base",
    [
        name
        for name in TOGETHER
        if name not in ("autoscaling-keda", *SCALED_TO_ZERO, "istio", "monitoring-mesh", "jobs-keda")
    ],
)
RENDERS["base+all, their alternatives"] = (
    "base",
    [name for name in TOGETHER if name not in ("autoscaling", "gateway-api", "scale-to-zero-http", "jobs")],
)
RENDERS["base+all, behind a proxy"] = (
    "base",
    [
        name
        for name in TOGETHER
        if name not in ("autoscaling", "autoscaling-keda", "scale-to-zero", "istio", "monitoring-mesh", "jobs-keda")
    ],
)
# The renders that fix no user id.
OPENSHIFT = [f"{name}+openshift" for name in ("base", "production", "production-jobs", "loadtest", "scoring-job")]
RENDERS["production+openshift"] = ("overlays/production", ["openshift"])
RENDERS["production-jobs+openshift"] = ("overlays/production-jobs", ["openshift"])
RENDERS["loadtest+openshift"] = ("loadtest", ["openshift"])
RENDERS["scoring-job+openshift"] = ("scoring/job", ["openshift"])


def kustomize(folder: Path) -> str:
    """Render a folder with kustomize; raise CalledProcessError with its message when that fails."""
    return subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True, timeout=300
    ).stdout


@cache
def rendered(name: str) -> str:
    """Return the YAML of one of RENDERS."""
    source, components = RENDERS[name]
    if not components:
        return kustomize(K8S / source)
    with tempfile.TemporaryDirectory() as folder:
        k8s = os.path.relpath(K8S, os.path.realpath(folder))
        kustomization = {
            "resources": [f"{k8s}/{source}"],
            "components": [f"{k8s}/components/{component}" for component in components],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(Path(folder))


@cache
def parsed(name: str) -> list[Manifest]:
    """Return all manifests of one of RENDERS."""
    return list(yaml.safe_load_all(rendered(name)))


def manifests(name: str, *kinds: str) -> list[Manifest]:
    """Return the manifests of one of RENDERS, of these kinds if any are given."""
    return [found for found in parsed(name) if not kinds or found["kind"] in kinds]


def pod(deployment: Manifest) -> Any:
    return deployment["spec"]["template"]["spec"]


def containers(deployment: Manifest) -> list[Any]:
    return [*pod(deployment).get("initContainers", []), *pod(deployment)["containers"]]


def labels(deployment: Manifest) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"]["labels"]  # type: ignore[no-any-return]


def selects(selector: dict[str, str], found: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= found.items()


def named(name: str, kind: str) -> dict[str, Manifest]:
    return {found["metadata"]["name"]: found for found in manifests(name, kind)}


def servers(name: str) -> list[Manifest]:
    return [found for found in manifests(name, "Deployment") if pod(found)["containers"][0]["name"] == "tiffin"]


def workers(name: str) -> list[Manifest]:
    return [found for found in manifests(name, "Deployment") if pod(found)["containers"][0]["name"] == "worker"]


def settings(name: str, deployment: Manifest) -> dict[str, str]:
    """Return the settings of a server or worker: those of its ConfigMaps, and those that stand in its own manifest."""
    container = pod(deployment)["containers"][0]
    maps = [source["configMapRef"]["name"] for source in container["envFrom"] if "configMapRef" in source]
    found = {key: value for each in maps for key, value in named(name, "ConfigMap")[each]["data"].items()}
    own = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    return found | {key: value for key, value in own.items() if key.startswith("TIFFIN_")}
