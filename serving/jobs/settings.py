"""The settings of background jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from serving.setting_types import MAX_TTL_SECONDS, Items, Seconds, Secret

FILE_SCHEMES = ("s3", "gs", "az")


class JobSettings(BaseSettings):
    """Settings of background jobs, a part of `Settings`."""

    job_store: Secret | None = Field(
        default=None,
        description="Where background jobs are kept: a folder, or postgresql://user:password@host/database, which "
        "several servers share; none by default, and so no jobs.",
    )
    job_files: str | None = Field(
        default=None,
        min_length=1,
        validate_default=True,
        description="Where the files of jobs are kept: a folder that all servers and workers see, or "
        "s3://bucket/prefix (gs://, az://); by default in the folder of TIFFIN_JOB_STORE.",
    )
    job_worker: bool | None = Field(
        default=None,
        description="Whether the server computes jobs itself; by default where the store is a folder. Others leave "
        "them to python -m serving.jobs.worker.",
    )
    job_lease_seconds: Annotated[Seconds, Field(ge=0.5)] = Field(
        default=30.0, description="Seconds after which the work of a worker that died is taken over."
    )
    job_retention_seconds: float = Field(
        default=86_400.0, ge=1, le=MAX_TTL_SECONDS, description="Seconds for which jobs that have ended are kept."
    )
    job_max_rows: Items = Field(default=1_000_000, description="Most rows of a job's file.")
    job_max_unfinished: Items = Field(
        default=16, description="Most unfinished jobs of one API key, or of all clients where none is needed."
    )
    job_max_bytes: Items = Field(
        default=10 * 2**30,
        description="Most bytes of the submitted files of all jobs together, of at least 64 KiB each.",
    )
    job_metrics_port: int = Field(
        default=3001, ge=0, le=2**16 - 1, description="Port of the metrics of python -m serving.jobs.worker; 0: none."
    )

    @field_validator("job_store")
    @classmethod
    def is_job_store(cls, value: SecretStr | None) -> SecretStr | None:
        """Refuse the address of another database, and of PostgreSQL what cannot be understood."""
        if value is not None and "://" in value.get_secret_value():
            from serving.jobs.database import is_postgresql, postgresql_options

            if not is_postgresql(value.get_secret_value()):
                raise ValueError("must be a folder or postgresql://user:password@host/database")
            postgresql_options(value.get_secret_value())
        return value

    @field_validator("job_files")
    @classmethod
    def is_for_job_files(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Refuse the address of a store of another kind, and none where the job store is no folder."""
        store = info.data.get("job_store")
        if value is None and store is not None and "://" in store.get_secret_value():
            raise ValueError("must say where files are kept, since TIFFIN_JOB_STORE is no folder")
        if value is not None and "://" in value:
            parts = urlsplit(value)
            if parts.scheme not in FILE_SCHEMES or not parts.netloc:
                raise ValueError("must be a folder or s3://bucket/prefix (gs://, az://)")
        return value

    @property
    def job_database(self) -> str:
        """The database of the job store, as `Database` takes it."""
        assert self.job_store is not None  # noqa: S101
        url = self.job_store.get_secret_value()
        return url if "://" in url else str(Path(url).absolute() / "jobs.sqlite")

    @property
    def job_folder(self) -> str:
        """Where the files of jobs are kept."""
        if self.job_files is not None:
            return self.job_files if "://" in self.job_files else str(Path(self.job_files).absolute())
        return str(Path(self.job_database).parent / "files")

    @property
    def has_job_worker(self) -> bool:
        """Whether the server computes jobs itself."""
        if self.job_store is None:
            return False
        return "://" not in self.job_store.get_secret_value() if self.job_worker is None else self.job_worker
