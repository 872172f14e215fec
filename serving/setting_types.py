"""Types of settings, and those settings that may differ from model to model."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

# Beyond these a value is a mistake: workers or threads, a day, ten years.
MAX_PROCESSES = 1_024
MAX_SECONDS = 86_400
MAX_TTL_SECONDS = 315_360_000

Concurrency = Annotated[int, Field(ge=1, le=MAX_PROCESSES)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
Items = Annotated[int, Field(ge=1)]
Linger = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
MaxBatch = Annotated[int | None, Field(ge=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]


class ModelSettings(BaseModel):
    """Settings of a model's queue and inference.

    `Settings.model` holds the overrides for single models; `Settings.of` returns the settings that apply to a model.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    session_threads: Concurrency = 1
    queue_seconds: Seconds = 2.0
    queue_items: Items = 20_000
    linger_seconds: Linger = 0.002
    batch_share: Share = 0.05
    max_batch: MaxBatch = None
