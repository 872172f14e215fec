"""Find the store entry of a model: by name, by name and version, or as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import models
from serving.inference.registry import ModelId

# The name of the file in which an entry's folder has its name and version.
ABOUT = "model.yaml"


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
    return stored_entry(model)


def entry_in(folder: Path) -> Entry:
    """Return the entry in a folder; it needs no BentoML, and so suits workers that are sent the folder."""
    import yaml

    about = yaml.safe_load((folder / ABOUT).read_text(encoding="utf-8"))
    try:
        found = ModelId(about["name"], str(about["version"]))
        models.check(found.name)
    except (KeyError, TypeError):
        raise EntryError(f"{folder / ABOUT} has no name and version") from None
    except ValueError as error:
        raise EntryError(f"{folder / ABOUT}: {error}") from None
    return Entry(found, folder)


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
