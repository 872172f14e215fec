"""The models that come with the project: plain files of their store entries, put into the BentoML store.

Each lies in `models/shipped/<name>/`, with the name and version of its tag, which follow from what is in it, in
`model.yaml`. A Bento has its models packed, and no such folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bentoml
import yaml
from bentoml.exceptions import BentoMLException, NotFound
from filelock import FileLock

FOLDER = Path(__file__).resolve().parents[2] / "models" / "shipped"
# How long to wait for another process that puts models into the same store.
LOCK_SECONDS = 60


def put_into_store(names: Iterable[str], folder: Path = FOLDER) -> None:
    """Put the shipped models among `names` into the store where it lacks them.

    The newest entry is a model's default, so a shipped one follows older ones of ours. Where the default is a model
    of the user's own, the entry is dated before that.
    """
    found = [folder / name for name in names if (folder / name / "model.yaml").is_file()]
    if all(is_stored(entry) for entry in found):
        return
    home = Path(os.environ.get("BENTOML_HOME") or "~/bentoml").expanduser()
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "tiffin.lock", timeout=LOCK_SECONDS):
        for entry in found:
            if not is_stored(entry):
                store(entry)


def read_info(entry: Path) -> dict[str, Any]:
    """Read the model.yaml of an entry."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML was built with it
    info: dict[str, Any] = yaml.load((entry / "model.yaml").read_text(encoding="utf-8"), loader)  # noqa: S506
    return info


def content_version(files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> str:
    """Return the version of an entry: twelve hexadecimal digits that change with its files and with what it says.

    With which libraries it was made does not count.
    """
    about = {key: value for key, value in metadata.items() if key != "libraries"}
    content = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(files):
        content.update(f"\n{name} {len(files[name])}\n".encode() + files[name])
    return content.hexdigest()[:12]


def is_stored(entry: Path) -> bool:
    """Return whether the store has this entry, and whole: a copy may have been interrupted."""
    info = read_info(entry)
    try:
        stored = Path(bentoml.models.get(f"{info['name']}:{info['version']}").path)
    except BentoMLException:
        return False
    sizes = {path.name: path.stat().st_size for path in entry.iterdir() if path.name != "model.yaml"}
    return all((stored / name).is_file() and (stored / name).stat().st_size == size for name, size in sizes.items())


def store(entry: Path) -> None:
    """Put an entry into the store, in place of an incomplete copy."""
    info = read_info(entry)
    tag = f"{info['name']}:{info['version']}"
    with contextlib.suppress(NotFound):
        bentoml.models.delete(tag)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(entry, Path(folder) / "entry"))
        if (moment := moment_before_own(info)) is not None:
            text = yaml.safe_dump(info | {"creation_time": moment.isoformat()}, sort_keys=False, allow_unicode=True)
            (copy / "model.yaml").write_text(text, encoding="utf-8")
        bentoml.models.import_model(str(copy), "folder")


def moment_before_own(info: dict[str, Any]) -> datetime | None:
    """Return the moment before the default was made where that is a model of the user's own, and older; else None."""
    try:
        default = bentoml.models.get(info["name"])
    except NotFound:
        return None
    created = datetime.fromisoformat(info["creation_time"])
    if default.info.metadata.get("origin") and default.creation_time <= created:
        return default.creation_time - timedelta(microseconds=1)
    return None
