"""Find the store entry of a model: by name, by name and version, or as a folder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import models
from serving.bento.start import home
from serving.inference.registry import ModelId

# The name of the file in which an entry's folder has its name and version.
ABOUT = "model.yaml"
SHIPPED = Path(models.__file__).parent / "shipped"


class Entry(NamedTuple):
    """A model's entry: its name in `models/`, its version, and the folder of its files."""

    id: ModelId
    folder: Path


class EntryError(Exception):
    """There is no such model, or its entry cannot be read; the text says what to do."""


def find_entry(model: str) -> Entry:
    """Return the entry of `name`, `name:version`, or of a folder with a `model.yaml`.

    A bare name stands for the store's newest version, as it does for the server; shipped models are put into the store
    where it lacks them. Raises EntryError.
    """
    if (Path(model) / ABOUT).is_file():
        return entry_in(Path(model))
    name = model.partition(":")[0]
    try:
        models.check(name)
    except ValueError as error:
        raise EntryError(f"{error}; a folder needs a {ABOUT}") from None
    return stored_entry(model) if find_spec("bentoml") else entry_without_bentoml(model)


def entry_in(folder: Path) -> Entry:
    """Return the entry in a folder; it needs no BentoML, and so suits workers that are sent the folder."""
    about = read_about(folder)
    try:
        found = ModelId(about["name"], str(about["version"]))
        models.check(found.name)
    except (KeyError, TypeError):
        raise EntryError(f"{folder / ABOUT} has no name and version") from None
    except ValueError as error:
        raise EntryError(f"{folder / ABOUT}: {error}") from None
    return Entry(found, folder)


def read_about(folder: Path) -> Any:
    """Return what an entry's model.yaml says; None where there is no such file."""
    import yaml

    file = folder / ABOUT
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None


def stored_entry(model: str) -> Entry:
    """Return the entry of `name` or `name:version` in BentoML's store."""
    from serving.bento.shipped import put_into_store
    from serving.bento.start import store_fault
    from serving.bento.store import ModelMissingError, stored_model

    try:
        put_into_store([model.partition(":")[0]])
        stored = stored_model(model, None)
    except ModelMissingError as error:
        raise EntryError(str(error)) from None
    except OSError as error:
        raise EntryError(store_fault(error)) from None
    return Entry(ModelId(stored.tag.name, str(stored.tag.version)), Path(stored.path))


def entry_without_bentoml(model: str) -> Entry:
    """Return the entry that `stored_entry` would find, where BentoML is not installed, as on Spark.

    The store's folders are read, and not written to: the shipped model is taken from where it is shipped.
    """
    name, _, version = model.partition(":")
    store = home() / "models" / name
    if version in ("", "latest"):
        found = default_of(store, SHIPPED / name)
    else:
        found = [folder for folder in (store / version, SHIPPED / name) if is_version(folder, version)]
    if not found:
        raise EntryError(f"neither {store.parent} nor {SHIPPED} has a model {model!r}: name the folder of its entry")
    return entry_in(found[0])


def is_version(folder: Path, version: str) -> bool:
    """Return whether a folder has an entry of a version."""
    about = read_about(folder)
    return about is not None and str(about.get("version")) == version


def default_of(store: Path, shipped: Path) -> list[Path]:
    """Return the entry that a bare name stands for, if any: the store's newest; of shipped ones the newer."""
    newest = store / "latest"
    stored = store / newest.read_text(encoding="utf-8").strip() if newest.is_file() else store
    found, other = read_about(stored), read_about(shipped)
    if found is None or other is None:
        return [folder for folder, about in ((stored, found), (shipped, other)) if about is not None]
    about = found["metadata"]
    is_own = about.get("origin") or about.get("changed_sources") or "inputs_digest" not in about
    return [stored if is_own or str(found["creation_time"]) >= str(other["creation_time"]) else shipped]
