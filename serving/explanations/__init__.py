"""Explanations of single predictions: what in a text, a picture or a row decided; no transport, no BentoML."""

from serving.explanations.explainer import ExplanationService
from serving.explanations.explanation import Explanation
from serving.explanations.kinds import kind_of

__all__ = ["Explanation", "ExplanationService", "kind_of"]
