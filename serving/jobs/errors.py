"""What the job store says instead of a job."""

from __future__ import annotations


class UnknownJobError(LookupError):
    """There is no such job, or it belongs to somebody else."""


class UnfinishedError(Exception):
    """A job has no result, or not yet."""


class JobStateError(Exception):
    """A job has ended, so that it cannot be cancelled."""


class KeyReusedError(ValueError):
    """An idempotency key came with another file, or another version of the model, than before."""


class TooManyJobsError(Exception):
    """The client has as many unfinished jobs as it may have."""


class StoreFullError(Exception):
    """The job store has no room for another job."""


class StoreUnavailableError(Exception):
    """The database or the files of the job store do not answer."""


class MissingFileError(StoreUnavailableError):
    """A file of a job is not there: its job was deleted meanwhile, or the store has lost it."""
