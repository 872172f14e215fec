"""Loading of models from BentoML's store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml
from bentoml.exceptions import NotFound

import models
from serving.inference.predictor import OutputCache, Predictor
from serving.inference.registry import ModelId


class ModelMissingError(RuntimeError):
    """The model store has no entry for a model that is to be served."""


def stored_model(name: str, bento: bentoml.Bento | None) -> bentoml.Model:
    """Return a model's store entry: the version packed in the served Bento, else the latest."""
    packed = {model.tag.name: model.tag for model in bento.info.all_models} if bento else {}
    try:
        return bentoml.models.get(packed.get(name, name))
    except NotFound as error:
        raise ModelMissingError(f"the model store has no {name!r}; make it with: python -m training {name}") from error


def load(stored: bentoml.Model, cache: OutputCache, threads: int, **queue: Any) -> Predictor:
    """Load the model of a store entry into a predictor."""
    folder = Path(stored.path)
    model_id = ModelId(stored.tag.name, str(stored.tag.version))
    model = models.find(model_id.name)(folder)
    return Predictor(model_id, model, folder / "model.onnx", cache, threads, stored.info.metadata, **queue)
