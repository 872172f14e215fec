"""Model stores, and entries that are put into them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

import models
from serving.bento.shipped import FOLDER, read_info
from tests.support import ROOT
from tests.support.processes import run_python

PUT = """
import sys
from pathlib import Path
from typing import Any
from serving.bento import shipped
shipped.put_into_store(sys.argv[2:], Path(sys.argv[1]))
"""


def put(home: Path, *names: str, folder: Path = FOLDER) -> None:
    """Put shipped models into the store of a home."""
    done = run_python(home, "-c", PUT, str(folder), *names)
    assert done.returncode == 0, done.stderr


def entry(folder: Path, version: str, created: str, origin: str | None = None, **changes: Any) -> Path:
    """A folder with a shipped model of another version and time of creation, or one of the user's own.

    `changes` are made to its metadata; None takes a key away.
    """
    copy = Path(shutil.copytree(FOLDER / "breast_cancer", folder / "breast_cancer"))
    info = read_info(copy) | {"version": version, "creation_time": created}
    if origin:
        info["metadata"]["origin"] = {"from": origin}
    info["metadata"] |= changes
    info["metadata"] = {key: value for key, value in info["metadata"].items() if value is not None}
    (copy / "model.yaml").write_text(yaml.safe_dump(info), encoding="utf-8")
    return folder


def put_versions(home: Path, folder: Path) -> str:
    """Put the shipped breast_cancer and an older version `opposite`, which says the opposite; the former's version."""
    import onnx  # takes half a second, which most tests are spared

    made = entry(folder, "opposite", "2026-01-01T00:00:00+00:00")
    path = made / "breast_cancer" / "model.onnx"
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(onnx.helper.make_tensor("highest", onnx.TensorProto.INT64, [1], [1]))
    model.graph.node.append(onnx.helper.make_node("Sub", ["highest", "before"], ["label"]))
    onnx.save(model, path)
    put(home, "breast_cancer", folder=made)
    put(home, "breast_cancer")
    return newest(home, "breast_cancer").name


def shipped_store() -> Path:
    """Put the shipped models into a BentoML home of the tests' own; its folder."""
    home = ROOT / ".cache" / "bentoml"
    done = run_python(home, "-c", f"from serving.bento import shipped; shipped.put_into_store({models.names()})")
    assert done.returncode == 0, done.stderr
    return home


def newest(home: Path, name: str) -> Path:
    """Folder of the newest store entry of a model."""
    folder = home / "models" / name
    return folder / (folder / "latest").read_text(encoding="utf-8").strip()
