"""The settings of the server: one field each, set by the environment variable `TIFFIN_` and the field's name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from limits import RateLimitItem
from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

import models
from serving.caching.settings import CacheSettings
from serving.cores import available_cores, default_workers
from serving.empty_values import EmptyValues
from serving.execution_providers import execution_provider
from serving.grpc.settings import GrpcSettings
from serving.http.access import parse_rate, read_keys
from serving.http.addresses import is_http_url
from serving.http.proxies import Network, network
from serving.jobs.settings import JobSettings
from serving.old_names import OldNames
from serving.setting_types import (
    MAX_SECONDS,
    Concurrency,
    Items,
    Linger,
    MaxBatch,
    ModelSettings,
    Seconds,
    Secret,
    Share,
)
from serving.setting_values import (
    checked_origins,
    known_model,
    model_entries,
    model_name,
    only_model,
    prefix,
    served_model,
    split,
)
from serving.variables import DELIMITER, PREFIX


class Settings(JobSettings, CacheSettings, GrpcSettings):
    """Settings of the server, read from the environment once, when `service.py` is imported."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_nested_max_split=2,  # the rest after a model's name is one setting, known or not
        env_ignore_empty=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    models: Annotated[list[str], NoDecode] = Field(
        default_factory=models.names,
        description="Models to serve, separated by commas; all by default. A name stands for its newest version, "
        "name:version for that one; several versions of a model are served side by side.",
    )
    default_model: str | None = Field(
        default_factory=lambda known: only_model(known.get("models", ())),
        description="The model that /predict, /uploadfile and /info ask, without a model's name; by default the only "
        "one that is served.",
    )
    workers: Concurrency = Field(
        default_factory=default_workers,
        description="Worker processes, each with its own models and memory; one for every four cores by default.",
    )
    session_threads: Concurrency = Field(
        default_factory=lambda known: max(1, available_cores() // known.get("workers", 1)),
        description="Threads of one model's inference in a worker; a worker's share of the cores by default.",
    )
    timeout_seconds: Seconds = Field(
        default=10.0, description="Seconds after which a request is given up with status 504."
    )
    queue_seconds: Seconds = Field(
        default=2.0, description="Longest wait for inference that is accepted; over it status 503."
    )
    queue_items: Items = Field(default=20_000, description="Most items that wait for a model; over it status 503.")
    linger_seconds: Linger = Field(
        default=0.002, description="How long a busy model waits for more items while its batch is not full."
    )
    batch_share: Share = Field(default=0.05, description="Share of time for batch work while other work waits, 0 to 1.")
    max_batch: MaxBatch = Field(
        default=None, description="Most items in one run of a model; by default what each model's file says."
    )
    niceness: int = Field(
        default=10,
        ge=0,
        le=19,
        description="Steps of nice by which what computes stands back behind what answers; 0 beside busy programs.",
    )
    model: Annotated[dict[Annotated[str, AfterValidator(known_model)], ModelSettings], NoDecode] = Field(
        default_factory=dict,
        description="For one model: its SESSION_THREADS, QUEUE_SECONDS, QUEUE_ITEMS, LINGER_SECONDS, BATCH_SHARE or "
        "MAX_BATCH, as TIFFIN_MODEL__SENTIMENT__MAX_BATCH.",
    )
    execution_provider: str = Field(
        default="cpu", min_length=1, description="What models run on: cpu, or what else onnxruntime has, such as cuda."
    )
    shutdown_grace_seconds: float = Field(
        default=5.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds after SIGTERM in which requests are taken but /readyz says no.",
    )
    body_timeout_seconds: Seconds = Field(
        default=10.0, description="Seconds in which a body must arrive, or 64 KiB more of it; over it status 408."
    )
    keep_alive_seconds: int = Field(
        default=620,
        ge=1,
        le=MAX_SECONDS,
        description="Seconds for which a connection is kept between requests; longer than any proxy in front keeps it.",
    )
    max_body_bytes: int = Field(
        default=64 * 2**20,
        ge=1,
        description="Largest body of a request in bytes, where the route's own bound is not lower; over it status 413.",
    )
    max_upload_bytes: int = Field(
        default=256 * 2**20, ge=1, description="The same for routes that take files of many rows."
    )
    max_in_flight_bytes: int = Field(
        default=512 * 2**20, ge=1, description="Most bytes of all bodies that a worker holds; over it status 503."
    )
    root_path: str = Field(
        default="",
        description="Prefix of all paths behind a proxy, such as /project, whether it strips the prefix or not.",
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins whose pages may ask, separated by commas, such as https://app.example; * for all.",
    )
    api_keys: Annotated[list[Secret], NoDecode] = Field(
        default_factory=list, description="Keys that admit a request, separated by commas; none: everybody."
    )
    api_keys_file: Path | None = Field(
        default=None, description="File with a key per line, read again when it changes; for mounted secrets."
    )
    rate_limit: RateLimitItem | None = Field(
        default=None, description="Most requests per key or client address, such as 100/minute; over it status 429."
    )
    trusted_proxies: Annotated[list[Network], NoDecode] = Field(
        default_factory=list,
        description="Proxies whose X-Forwarded-For tells the client's address: addresses and networks, such as "
        "10.0.0.0/8, separated by commas; none by default.",
    )
    otel_exporter_otlp_endpoint: Secret | None = Field(
        default=None,
        description="Collector to which traces are sent by OTLP over HTTP, such as http://localhost:4318; "
        "OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT will do as well.",
    )
    model_control: bool = Field(
        default=False, description="Let clients load and unload versions of models; needs API keys and one worker."
    )
    access_log: bool = Field(default=False, description="Write a line to the log for every request.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of settings; the first one that has a setting decides."""
        return init_settings, EmptyValues(settings_cls), env_settings, OldNames(settings_cls)

    @property
    def names(self) -> list[str]:
        """The names of the models to serve, each once."""
        return list(dict.fromkeys(map(model_name, self.models)))

    @property
    def pinned(self) -> dict[str, list[str]]:
        """The versions that are asked for by their tags, by the name of their model."""
        found: dict[str, list[str]] = {}
        for name, _, version in (entry.partition(":") for entry in self.models):
            if version:
                found.setdefault(name, []).append(version)
        return found

    def of(self, model: str) -> ModelSettings:
        """Return the settings that hold for one model: those set for it, and the others as set for all."""
        own = self.model.get(model, ModelSettings())
        return ModelSettings(
            **{
                name: getattr(own if name in own.model_fields_set else self, name)
                for name in ModelSettings.model_fields
            }
        )

    @field_validator("models", mode="before")
    @classmethod
    def split_names(cls, value: object) -> object:
        """Split 'a, b:version' into a list; refuse an empty one, names of no model of this project, bad versions."""
        return model_entries(split(value))

    @field_validator("default_model")
    @classmethod
    def served(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Refuse a default model that is not served."""
        return value if value is None else served_model(value, info.data.get("models", ()))

    @field_validator("root_path")
    @classmethod
    def is_prefix(cls, value: str, info: ValidationInfo) -> str:
        """Refuse what is no path, and a prefix that begins with the name of a model."""
        return prefix(value, [model_name(entry) for entry in info.data.get("models", ())])

    @field_validator("api_keys", mode="before")
    @classmethod
    def split_keys(cls, value: object) -> object:
        """Split the keys in 'a, b' into a list; refuse commas alone, which would admit everybody."""
        keys = split(value)
        if value and not keys:
            raise ValueError("holds no key; unset it to admit everybody")
        return keys

    @field_validator("cors_origins", mode="before")
    @classmethod
    def split_origins(cls, value: object) -> object:
        """Split the origins in 'a, b' into a list; refuse a path or a slash at the end, which no browser sends."""
        return checked_origins(split(value))

    @field_validator("api_keys_file")
    @classmethod
    def readable(cls, value: Path | None) -> Path | None:
        """Refuse a file that cannot be read or holds no keys, which would lock everybody out."""
        if value is not None:
            try:
                read_keys(value)
            except OSError as error:
                raise ValueError(f"{value} cannot be read: {error.strerror}") from error
        return value

    @field_validator("rate_limit", mode="before")
    @classmethod
    def parse_limit(cls, value: object) -> object:
        """Parse a rate limit such as '100/minute'."""
        return parse_rate(value) if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def parse_networks(cls, value: object) -> object:
        """Parse the networks in '10.0.0.0/8, ::1' into a list."""
        parts = split(value)
        return [network(part) for part in parts] if isinstance(parts, list) else value

    @field_validator("execution_provider")
    @classmethod
    def provided(cls, value: str) -> str:
        """Return onnxruntime's name of an execution provider; refuse one that it does not have here."""
        return execution_provider(value)

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def parsable(cls, value: SecretStr | None) -> SecretStr | None:
        """Refuse a URL that the exporter cannot parse, and would log with its password for each batch of traces."""
        if value is not None and not is_http_url(value.get_secret_value()):
            raise ValueError("must be an address such as http://localhost:4318")
        return value
