"""Make model stores and entries for them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

import models
from serving.bento.shipped import FOLDER, read_info
from tests.support import ROOT
from tests.support.processes import run_python

PUT = """
import os, sys
from pathlib import Path
from typing import Any
from serving.bento import shipped
for folder in sys.argv[1].split(os.pathsep):
    shipped.put_into_store(sys.argv[2:], Path(folder))
"""


def put(home: Path, *names: str, folders: Sequence[Path] = (FOLDER,)) -> None:
    """Put the shipped models of these names into a home's store, from one folder after the other."""
    done = run_python(home, "-c", PUT, os.pathsep.join(map(str, folders)), *names)
    assert done.returncode == 0, done.stderr


def entry(folder: Path, version: str, created: str, origin: str | None = None, **changes: Any) -> Path:
    """Copy the shipped breast_cancer model into `folder` with another version and creation time; return the folder.

    An `origin` makes it a model of the user's own. `changes` update its metadata; None removes a key.
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
    """Put the shipped breast_cancer and an older `opposite` with inverted labels; return the version of the former."""
    import onnx  # takes half a second, and most tests do not need it

    made = entry(folder, "opposite", "2026-01-01T00:00:00+00:00")
    path = made / "breast_cancer" / "model.onnx"
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(onnx.helper.make_tensor("highest", onnx.TensorProto.INT64, [1], [1]))
    model.graph.node.append(onnx.helper.make_node("Sub", ["highest", "before"], ["label"]))
    onnx.save(model, path)
    put(home, "breast_cancer", folders=[made, FOLDER])
    return newest(home, "breast_cancer").name


def shipped_store() -> Path:
    """Put all shipped models into the BentoML home of the tests; return that folder."""
    home = ROOT / ".cache" / "bentoml"
    done = run_python(home, "-c", f"from serving.bento import shipped; shipped.put_into_store({models.names()})")
    assert done.returncode == 0, done.stderr
    return home


def newest(home: Path, name: str) -> Path:
    """Return the folder of the newest store entry of a model."""
    folder = home / "models" / name
    return folder / (folder / "latest").read_text(encoding="utf-8").strip()
