"""The inference engine, which is independent of transports, of BentoML and of Redis."""

from serving.inference.context import RequestContext
from serving.inference.predictor import Predictor
from serving.inference.registry import ModelId, Registry
from serving.inference.service import InferenceService

__all__ = ["InferenceService", "ModelId", "Predictor", "Registry", "RequestContext"]
