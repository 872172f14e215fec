"""A job as the store knows it, and a chunk of it that a worker has taken."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from serving.inference.registry import ModelId


class State(StrEnum):
    """What BentoML's clients call the states of a task."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_final(self) -> bool:
        """Whether a job stays in this state."""
        return self not in (State.PENDING, State.IN_PROGRESS)


@dataclass(frozen=True)
class Job:
    """A job; times are in seconds since 1970 by the database's clock.

    `owner`: the name of the key that submitted it, empty where none is needed. `rows` and `chunks` are None until a
    worker has read the file. `plan`: the folder of the chunks' inputs, once they are there. `names`: the names of an
    archive's files are part of the result.
    """

    id: str
    owner: str
    model: str
    state: State
    digest: str
    bytes: int
    rows: int | None
    chunks: int | None
    done_rows: int
    created_at: float
    executed_at: float | None
    finished_at: float | None
    plan: str | None
    error: str | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Job:
        """Return the job in a row of the database."""
        found = row | {"state": State(row["state"])}
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    @property
    def model_id(self) -> ModelId:
        """The version of the model that answers it."""
        return model_id_of(self.model)

    def described(self) -> dict[str, Any]:
        """Return what clients are told of it."""
        found: dict[str, Any] = {
            "task_id": self.id,
            "status": self.state.value,
            "created_at": written(self.created_at),
            "executed_at": written(self.executed_at),
            "finished_at": written(self.finished_at),
            "model_version": self.model_id.version,
            "rows": self.rows,
            "rows_done": self.done_rows,
        }
        return found | (self.fault() if self.error is not None else {})

    def fault(self) -> dict[str, Any]:
        """Return why a job failed, as the body of an error has it: `error` and `detail`."""
        found: dict[str, Any] = json.loads(self.error or "{}")
        return found


@dataclass(frozen=True)
class Claim:
    """A chunk that one worker computes while its lease lasts: `token` is the lease's.

    `number` counts from 0; `PLAN` stands for reading the file and cutting it into chunks. `attempts`: how often it has
    failed before.
    """

    job: str
    number: int
    first_row: int
    rows: int
    attempts: int
    token: str
    model: str
    plan: str | None
    trace: str | None

    @classmethod
    def of(cls, row: dict[str, Any], token: str) -> Claim:
        """Return the chunk in a row of the database, claimed by `token`."""
        found = row | {"token": token}
        return cls(**{field.name: found[field.name] for field in fields(cls)})

    @property
    def model_id(self) -> ModelId:
        """The version of the model that answers it."""
        return model_id_of(self.model)

    @property
    def inputs(self) -> str:
        """The folder for the inputs of the chunks into which the file is cut under this lease."""
        return f"{self.job}/inputs-{self.token}"


# The number of the chunk that stands for reading the file.
PLAN = -1


def model_id_of(text: str) -> ModelId:
    """Return the model's identity from `name:version`."""
    name, _, version = text.partition(":")
    return ModelId(name, version)


def written(seconds: float | None) -> str | None:
    """Return a time in ISO 8601, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
