"""The settings of the server: one field each, set by the environment variable of the same name."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models


class Settings(BaseSettings):
    """Settings of the server, read from the environment once, when `service.py` is imported."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    models: Annotated[list[str], NoDecode] = Field(
        default_factory=models.names, description="Models to serve, separated by commas; all by default."
    )
    workers: int = Field(default=1, ge=1, description="Worker processes, each with its own models and memory.")
    session_threads: int = Field(
        default_factory=lambda: len(os.sched_getaffinity(0)),
        ge=1,
        description="Threads of one model's inference in a worker; as many as there are cores by default.",
    )
    timeout_seconds: float = Field(
        default=10.0, gt=0, description="Seconds after which a request is given up with status 504."
    )
    max_body_bytes: int = Field(
        default=32 * 2**20, ge=1, description="Largest body of a request in bytes; over it status 413."
    )
    max_upload_bytes: int = Field(
        default=256 * 2**20, ge=1, description="The same for routes that take files of many rows."
    )
    cache_ttl_seconds: float = Field(
        default=180.0, ge=0, description="Seconds for which a prediction is kept; 0 turns the prediction cache off."
    )
    cache_max_bytes: int = Field(
        default=64 * 2**20, ge=0, description="Memory of a worker's prediction cache in bytes; the oldest entries go."
    )
    access_log: bool = Field(default=False, description="Write a line to the log for every request.")

    @field_validator("models", mode="before")
    @classmethod
    def split_names(cls, value: object) -> object:
        """The names in 'a, b' as a list; each must be a model of this project."""
        names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
        return list(dict.fromkeys(map(models.check, names))) if isinstance(names, list) else names
