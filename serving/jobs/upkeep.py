"""What is to be done from time to time: forget old jobs with their files, tell Prometheus what waits."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import NamedTuple

from serving.inference.registry import ModelId, Registry
from serving.jobs.database import Database, Transaction
from serving.jobs.errors import StoreUnavailableError
from serving.jobs.files import JobFiles
from serving.jobs.job import model_id_of
from serving.jobs.statements import forget
from serving.telemetry import metrics

log = logging.getLogger("tiffin.jobs")

BACKLOG_SECONDS, EXPIRY_SECONDS, ORPHANS_SECONDS = 5.0, 60.0, 900.0


class Backlog(NamedTuple):
    """The unfinished jobs of one version of a model; `oldest_seconds` is the age of the oldest."""

    model: ModelId
    queued: int
    running: int
    oldest_seconds: float


class Upkeep:
    """Runs in every process that knows the job store; it does not matter how many do."""

    def __init__(self, registry: Registry, database: Database, files: JobFiles, retention_seconds: float) -> None:
        self.registry = registry
        self.database = database
        self.files = files
        self.retention_seconds = retention_seconds
        self.told: set[ModelId] = set()
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self.task = asyncio.create_task(self.run())

    def stop(self) -> None:
        """End."""
        if self.task is not None:
            self.task.cancel()

    async def run(self) -> None:
        """Do what is due, again and again."""
        duties = [
            (self.tell_backlog, BACKLOG_SECONDS),
            (self.expire, min(EXPIRY_SECONDS, self.retention_seconds)),
            (self.remove_orphans, ORPHANS_SECONDS),
        ]
        due = [0.0] * len(duties)
        while True:
            for place, (duty, seconds) in enumerate(duties):
                if time.monotonic() >= due[place]:
                    due[place] = time.monotonic() + seconds
                    try:
                        await duty()
                    except StoreUnavailableError:
                        metrics.job_store_errors.inc()
                    except Exception:
                        log.exception("the upkeep of the job store failed")
            await asyncio.sleep(max(0.1, min(due) - time.monotonic()))

    async def tell_backlog(self) -> None:
        """Set the gauges of unfinished jobs: of the versions that are loaded, and of others that have some or had."""
        found = {backlog.model: backlog for backlog in await self.database.run(backlogs)}
        self.told |= {*found, *(predictor.id for predictor in self.registry)}
        for model in self.told:
            backlog = found.get(model, Backlog(model, 0, 0, 0.0))
            metrics.jobs.labels(*model, "queued").set(backlog.queued)
            metrics.jobs.labels(*model, "running").set(backlog.running)
            metrics.job_oldest_seconds.labels(*model).set(backlog.oldest_seconds)

    async def expire(self) -> None:
        """Forget jobs that ended long ago, and delete their files."""

        def work(transaction: Transaction) -> list[str]:
            ended = transaction.rows(
                "SELECT id FROM jobs WHERE finished_at < {now} - :seconds", seconds=self.retention_seconds
            )
            for row in ended:
                forget(transaction, row["id"])
            return [row["id"] for row in ended]

        for job in await self.database.run(work):
            await self.files.delete(job)

    async def remove_orphans(self) -> None:
        """Delete old files of jobs that nobody knows."""

        def work(transaction: Transaction) -> set[str]:
            return {row["id"] for row in transaction.rows("SELECT id FROM jobs")}

        for job in await self.files.orphans(await self.database.run(work)):
            await self.files.delete(job)


def backlogs(transaction: Transaction) -> list[Backlog]:
    """Return what is queued and running of each version of a model."""
    found = transaction.rows(
        "SELECT model, sum(CASE WHEN state = 'pending' THEN 1 ELSE 0 END) AS queued,"
        " sum(CASE WHEN state = 'pending' THEN 0 ELSE 1 END) AS running, {now} - min(created_at) AS oldest"
        " FROM jobs WHERE state IN {active} GROUP BY model"
    )
    return [
        Backlog(model_id_of(row["model"]), int(row["queued"]), int(row["running"]), float(row["oldest"]))
        for row in found
    ]
