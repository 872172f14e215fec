"""The registry of loaded predictors, by the name and version of their model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from serving.inference.errors import UnknownModelError

if TYPE_CHECKING:
    from serving.inference.predictor import Predictor


class ModelId(NamedTuple):
    """A model's name, as in `models/`, and its version, that of its entry in the store."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"


class Registry:
    """Predictors by the id of their model; of several versions, the one added last is the default."""

    def __init__(self) -> None:
        self.predictors: dict[ModelId, Predictor] = {}
        self.defaults: dict[str, Predictor] = {}

    def add(self, predictor: Predictor) -> None:
        """Register a predictor under its model's id, and as its model's default."""
        self.predictors[predictor.id] = predictor
        self.defaults[predictor.id.name] = predictor

    def remove(self, model_id: ModelId) -> Predictor:
        """Take a predictor out and return it; it still answers the requests that have it."""
        predictor = self.predictors.pop(model_id)
        if self.defaults.get(model_id.name) is predictor:
            del self.defaults[model_id.name]
        return predictor

    def set_default(self, name: str, order: Sequence[ModelId]) -> None:
        """Make the last of the versions in `order` that are loaded the default of a model."""
        for model_id in order:
            if model_id in self.predictors:
                self.defaults[name] = self.predictors[model_id]

    def get(self, name: str, version: str | None = None) -> Predictor:
        """Return a model's predictor, of its default version unless one is given; raise UnknownModelError."""
        known = self.defaults.get(name) if version is None else self.predictors.get(ModelId(name, version))
        if known is None:
            loaded = ", ".join(self.versions(name)) or "none"
            raise UnknownModelError(
                f"no version of {name} is loaded"
                if version is None
                else f"no version {version} of {name}, only {loaded}"
            )
        return known

    def version(self, name: str) -> str:
        """Return a model's default version, or an empty string while none is loaded."""
        return self.defaults[name].id.version if name in self.defaults else ""

    def versions(self, name: str) -> list[str]:
        """Return the loaded versions of a model."""
        return [id_.version for id_ in self.predictors if id_.name == name]

    def close(self) -> None:
        """Stop the threads of all predictors."""
        for predictor in self.predictors.values():
            predictor.close()

    def __iter__(self) -> Iterator[Predictor]:
        return iter(self.predictors.values())

    def __contains__(self, model_id: object) -> bool:
        return model_id in self.predictors

    def __len__(self) -> int:
        return len(self.predictors)
