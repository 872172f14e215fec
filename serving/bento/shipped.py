"""The models shipped with the project: plain files of their store entries, put into the BentoML store.

Each lies in `models/shipped/<name>/`; the name and version of its tag, which follow from its content, are in its
`model.yaml`. A Bento has its models packed, and no such folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bentoml
import yaml
from bentoml.exceptions import NotFound
from filelock import FileLock

from serving.bento.start import home
from serving.bento.store import created

FOLDER = Path(__file__).resolve().parents[2] / "models" / "shipped"
# How long to wait for another process that puts models into the same store.
LOCK_SECONDS = 60


def put_into_store(names: Iterable[str], folder: Path = FOLDER) -> None:
    """Put the shipped models among `names` into the store where it lacks them.

    The newest entry is a model's default, so a shipped one takes the place of older ones of ours. Where the
    default is a model of the user's own, the entry is dated before that. Leftovers of interrupted copies are removed.
    """
    found = [folder / name for name in names if (folder / name / "model.yaml").is_file()]
    if all(map(is_in_order, found)):
        return
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / "tiffin.lock", timeout=LOCK_SECONDS):
        for entry in found:
            if not is_in_order(entry):
                remove_incomplete(entry.name)
            if not is_stored(entry):
                store(entry)


def read_info(entry: Path) -> dict[str, Any]:
    """Read the model.yaml of an entry."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML was built with it
    info: dict[str, Any] = yaml.load((entry / "model.yaml").read_text(encoding="utf-8"), loader)  # noqa: S506
    return info


def content_version(files: Mapping[str, bytes], metadata: Mapping[str, Any]) -> str:
    """Return the version of an entry: twelve hexadecimal digits that change with its files and its metadata.

    The libraries that it was made with do not count.
    """
    about = {key: value for key, value in metadata.items() if key != "libraries"}
    content = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(files):
        content.update(f"\n{name} {len(files[name])}\n".encode() + files[name])
    return content.hexdigest()[:12]


def is_stored(entry: Path) -> bool:
    """Return whether the store has this entry, and has it complete."""
    info = read_info(entry)
    stored = home() / "models" / info["name"] / info["version"]
    if not has_same_about(stored, entry) and readable(f"{info['name']}:{info['version']}") is None:
        return False
    sizes = {path.name: path.stat().st_size for path in entry.iterdir() if path.name != "model.yaml"}
    return all((stored / name).is_file() and (stored / name).stat().st_size == size for name, size in sizes.items())


def has_same_about(stored: Path, entry: Path) -> bool:
    """Return whether two entries have the same model.yaml, which saves parsing it: BentoML takes long for that."""
    with contextlib.suppress(OSError):
        return (stored / "model.yaml").read_bytes() == (entry / "model.yaml").read_bytes()
    return False


def is_in_order(entry: Path) -> bool:
    """Return whether the store has this entry, and finds a default of its model."""
    return is_stored(entry) and readable(entry.name) is not None


def readable(tag: str) -> bentoml.Model | None:
    """Return the entry under a tag, or None where BentoML, which then raises errors of many classes, cannot read it."""
    try:
        return bentoml.models.get(tag)
    except Exception:
        return None


def remove_incomplete(name: str) -> None:
    """Remove what interrupted copies left of a model, and have BentoML find the default anew if that is broken.

    An entry that may be a damaged model of the user's own is left alone.
    """
    folder = home() / "models" / name
    for entry in folder.iterdir() if folder.is_dir() else ():
        about = entry / "model.yaml"
        is_empty = not about.is_file() or not about.stat().st_size
        is_ours = re.fullmatch(r"[0-9a-f]{12}", entry.name) is not None
        if entry.is_dir() and (is_empty or is_ours) and readable(f"{name}:{entry.name}") is None:
            shutil.rmtree(entry)
    if readable(name) is None:
        (folder / "latest").unlink(missing_ok=True)
        readable(name)


def store(entry: Path) -> None:
    """Put an entry into the store, in place of an incomplete copy."""
    info = read_info(entry)
    with contextlib.suppress(NotFound):
        bentoml.models.delete(f"{info['name']}:{info['version']}")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(entry, Path(folder) / "entry"))
        if (moment := moment_before_own(info)) is not None:
            text = yaml.safe_dump(info | {"creation_time": moment.isoformat()}, sort_keys=False, allow_unicode=True)
            (copy / "model.yaml").write_text(text, encoding="utf-8")
        bentoml.models.import_model(str(copy), "folder")


def moment_before_own(info: Mapping[str, Any]) -> datetime | None:
    """Return the moment before the user's own entries that are newer than all of ours; None if the date can stay."""
    try:
        entries = bentoml.models.list(info["name"])
    except NotFound:
        return None
    newest = max((created(entry) for entry in entries if not is_own(entry)), default=datetime.min.replace(tzinfo=UTC))
    own = [created(entry) for entry in entries if is_own(entry) and created(entry) > newest]
    moment = min(own, default=None)
    if moment is None or moment > datetime.fromisoformat(info["creation_time"]):
        return None
    return moment - timedelta(microseconds=1)


def is_own(entry: bentoml.Model) -> bool:
    """Return whether an entry is the user's own: made elsewhere, from changed sources, or by other means than ours."""
    metadata = entry.info.metadata
    return bool(metadata.get("origin") or metadata.get("changed_sources") or "inputs_digest" not in metadata)
