"""Metrics and spans of a model's batches."""

from __future__ import annotations

from collections.abc import Sequence

from serving.inference.context import Priority
from serving.inference.job import Job, total_size
from serving.inference.registry import ModelId
from serving.telemetry import metrics, tracing


class Observation:
    """The metrics and spans of one model."""

    def __init__(self, model_id: ModelId) -> None:
        self.model = model_id.name
        self.inference_seconds = metrics.inference_seconds.labels(*model_id)
        self.batch_items = metrics.batch_items.labels(*model_id)
        self.last_inference = metrics.last_inference.labels(*model_id)
        self.waiting = {
            Priority.INTERACTIVE: metrics.queue_items.labels(*model_id),
            Priority.BATCH: metrics.batch_work_items.labels(*model_id),
        }
        self.queue_wait = metrics.queue_seconds.labels(*model_id)
        self.dropped = {
            reason: metrics.dropped_items.labels(*model_id, reason) for reason in ("refused", "abandoned", "expired")
        }

    def trace(self, batch: Sequence[Job], started: float, ended: float) -> None:
        """Record the spans of a batch that waited until `started` and was computed until `ended`."""
        if batch[0].trace is None:  # nothing is traced
            return
        for job in {id(job.trace): job for job in batch}.values():
            tracing.record("queue", job.trace, job.queued, started, model=self.model)
            tracing.record("inference", job.trace, started, ended, model=self.model, batch_items=total_size(batch))
