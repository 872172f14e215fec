"""What BentoML's store has of the models that are served."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import bentoml
from bentoml.exceptions import NotFound


class ModelMissingError(RuntimeError):
    """The model store has no entry for a model that is to be served."""


def stored_models(wanted: Iterable[str], bento: bentoml.Bento | None) -> list[bentoml.Model]:
    """Return the store entries of `name`s and `name:version`s, those of a model from the oldest to its default.

    The default is what the bare name stands for, else the newest of the model's versions. An entry comes once.
    """
    found: dict[str, dict[str, bentoml.Model]] = {}
    defaults = set()
    for entry in wanted:
        stored = stored_model(entry, bento)
        found.setdefault(stored.tag.name, {})[str(stored.tag)] = stored
        if ":" not in entry:
            defaults.add(str(stored.tag))
    return [
        stored
        for versions in found.values()
        for stored in sorted(versions.values(), key=lambda stored: (str(stored.tag) in defaults, created(stored)))
    ]


def stored_model(entry: str, bento: bentoml.Bento | None) -> bentoml.Model:
    """Return the store entry of `name:version`, or of a bare name: the newest packed in the served Bento, or at all."""
    try:
        if ":" not in entry and bento is not None:
            packed = [info for info in bento.info.all_models if info.tag.name == entry]
            if packed:
                return bentoml.models.get(max(packed, key=created).tag)
        return bentoml.models.get(entry)
    except NotFound as error:
        name = entry.partition(":")[0]
        raise ModelMissingError(f"the model store has no {entry!r}; make it with: python -m training {name}") from error


def created(entry: Any) -> datetime:
    """Return when an entry of the store, or of a Bento, was made, taken as UTC where it has no time zone."""
    time: datetime = entry.creation_time
    return time if time.tzinfo else time.replace(tzinfo=UTC)
