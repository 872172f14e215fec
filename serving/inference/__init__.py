"""The engine: answers items by models. It knows no transport, no BentoML and no Redis."""

from serving.inference.context import RequestContext
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService

__all__ = ["InferenceService", "ModelId", "Predictor", "Registry", "RequestContext"]
