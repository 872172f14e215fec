"""A text classifier on BentoML with its own adaptive batching: a list of texts per request.

The maximum latency is BentoML's default: with the second that its guide shows, 64 connections would get 503.
"""

from __future__ import annotations

import bentoml
from engine import MAX_BATCH, Ranking, load


@bentoml.service
class TextClassifier:
    """The service, as BentoML's guide to adaptive batching shows it."""

    def __init__(self) -> None:
        self.run = load()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=60_000)
    def classify(self, texts: list[str]) -> list[Ranking]:
        """Classify a batch."""
        return self.run(texts)
