"""The background jobs of one process: the store, its files, and the worker where this process has one."""

from __future__ import annotations

import secrets
from pathlib import Path

from models.model import Array
from serving.inference.registry import ModelId, Registry
from serving.jobs.database import Database
from serving.jobs.errors import KeyReusedError, StoreFullError, TooManyJobsError
from serving.jobs.files import INPUT, JobFiles
from serving.jobs.job import Job
from serving.jobs.leases import Leases
from serving.jobs.parts import decoded
from serving.jobs.settings import JobSettings
from serving.jobs.store import JobStore, Limits, Submission
from serving.jobs.upkeep import Upkeep
from serving.jobs.worker import Worker
from serving.telemetry import tracing

# As many bytes a job counts at least: about what its few files take of a disk, and its rows of the database.
MIN_BYTES = 2**16
SCHEMA = Path(__file__).parent / "schema.sql"


class BackgroundJobs:
    """What routes and workers need of the job store; `root_path` is the prefix of all paths."""

    def __init__(self, settings: JobSettings, registry: Registry, *, has_worker: bool, root_path: str = "") -> None:
        self.root_path = root_path
        self.max_rows = settings.job_max_rows
        self.database = Database(settings.job_database, SCHEMA.read_text(encoding="utf-8"))
        self.files = JobFiles(settings.job_folder)
        self.store = JobStore(self.database, Limits(settings.job_max_unfinished, settings.job_max_bytes))
        self.upkeep = Upkeep(registry, self.database, self.files, settings.job_retention_seconds)
        self.worker: Worker | None = None
        if has_worker:
            leases = Leases(self.database, settings.job_lease_seconds)
            self.worker = Worker(registry, leases, self.files, self.max_rows)

    def start(self) -> None:
        """Begin to work."""
        self.upkeep.start()
        if self.worker is not None:
            self.worker.start()

    def drain(self) -> None:
        """Take no more chunks."""
        if self.worker is not None:
            self.worker.drain()

    async def stop(self, grace_seconds: float) -> None:
        """End; chunks that are not computed by then are left to other workers."""
        self.upkeep.stop()
        if self.worker is not None:
            await self.worker.stop(grace_seconds)
        self.database.close()

    async def submit(self, owner: str, model: ModelId, source: Path | Job, digest: str, key: str | None) -> Job:
        """Store a file, or that of another job, and submit it; return the job, or the earlier one of the same key.

        Raises KeyReusedError, TooManyJobsError, StoreFullError, MissingFileError or StoreUnavailableError.
        """
        if isinstance(source, Job):
            size = await self.files.size(f"{source.id}/{INPUT}")
        else:
            size = source.stat().st_size
        size = max(size, MIN_BYTES)
        job = secrets.token_hex(16)
        submission = Submission(job, owner, model, digest, size, key, tracing.traceparent())
        earlier = await self.store.admit(submission)
        if earlier is not None:
            return earlier
        if isinstance(source, Job):
            await self.files.copy(f"{source.id}/{INPUT}", f"{job}/{INPUT}")
        else:
            await self.files.put(f"{job}/{INPUT}", source)
        try:
            submitted = await self.store.submit(submission)
        except (KeyReusedError, TooManyJobsError, StoreFullError):  # others have come first
            await self.files.delete(job)
            raise
        if submitted.id != job:
            await self.files.delete(job)
        if self.worker is not None:
            self.worker.wake()
        return submitted

    async def delete(self, job: Job) -> None:
        """Forget a job, and delete its files."""
        await self.store.delete(job.id, job.owner)
        await self.files.delete(job.id)

    def read_result(self, name: str) -> dict[str, Array]:
        """Return the output columns of a chunk; the caller has a thread for it."""
        return decoded(self.files.read(name))
