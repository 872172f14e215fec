"""Make model stores and entries for them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess as Process
from pathlib import Path
from typing import Any

import yaml

import models
from serving.bento import shipped
from serving.bento.shipped import FOLDER, read_info
from tests.support import ROOT

# BentoML reads where its home is once in a process, and is imported once for all of these, with the module that it
# imports itself only when that is used.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.support.stores", "bentoml.models"])
PUT_SECONDS = 120


def put(home: Path, *names: str, folders: Sequence[Path] = (FOLDER,)) -> None:
    """Put the shipped models of these names into a home's store, from one folder after the other."""
    assert exit_codes(putting(home, *names, folders=folders)) == [0]


def putting(home: Path, *names: str, folders: Sequence[Path] = (FOLDER,)) -> Process:
    """Start a process that does as `put` does."""
    process = PROCESSES.Process(target=put_all, args=(home, names, folders))
    process.start()
    return process


def exit_codes(*processes: Process) -> list[int | None]:
    """Wait for processes to end; return their exit codes, None for one that has not ended."""
    for process in processes:
        process.join(PUT_SECONDS)
    return [process.exitcode for process in processes]


def put_all(home: Path, names: Sequence[str], folders: Sequence[Path]) -> None:
    """Do as `put` does, in this process, which has not used BentoML yet."""
    os.environ["BENTOML_HOME"] = str(home)
    for folder in folders:
        shipped.put_into_store(names, folder)


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
    put(home, *models.names())
    return home


def newest(home: Path, name: str) -> Path:
    """Return the folder of the newest store entry of a model."""
    folder = home / "models" / name
    return folder / (folder / "latest").read_text(encoding="utf-8").strip()
