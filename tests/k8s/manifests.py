"""The manifests as kustomize renders them: every overlay, every component on the base, and components together."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
K8S = ROOT / "k8s"

Manifest = dict[str, Any]

OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (K8S / "components").iterdir())
# What is rendered, by name: the folder of an overlay, or the components that are added to the base.
RENDERS: dict[str, Path | list[str]] = {name: K8S / "overlays" / name for name in OVERLAYS}
RENDERS["loadtest"] = K8S / "loadtest"
RENDERS |= {f"base+{name}": [name] for name in COMPONENTS}
RENDERS["base+all"] = [name for name in COMPONENTS if name not in ("autoscaling-keda", "istio")]
RENDERS["base+all, their alternatives"] = [name for name in COMPONENTS if name not in ("autoscaling", "gateway-api")]


def kustomize(folder: Path) -> str:
    """What kustomize makes of a folder; CalledProcessError with its complaint when it cannot."""
    return subprocess.run(
        ["kubectl", "kustomize", folder], capture_output=True, text=True, check=True, timeout=300
    ).stdout


@cache
def rendered(name: str) -> str:
    """The text of one of RENDERS."""
    source = RENDERS[name]
    if isinstance(source, Path):
        return kustomize(source)
    with tempfile.TemporaryDirectory() as folder:
        base = os.path.relpath(K8S, os.path.realpath(folder))
        kustomization = {
            "resources": [f"{base}/base"],
            "components": [f"{base}/components/{component}" for component in source],
        }
        (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return kustomize(Path(folder))


@cache
def parsed(name: str) -> list[Manifest]:
    """All manifests of one of RENDERS."""
    return list(yaml.safe_load_all(rendered(name)))


def manifests(name: str, *kinds: str) -> list[Manifest]:
    """The manifests of one of RENDERS, all or those of certain kinds."""
    return [found for found in parsed(name) if not kinds or found["kind"] in kinds]
