"""The settings of the server: one field each, set by the environment variable of the same name."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from limits import RateLimitItem, parse
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from serving.access import read_keys
from serving.cores import available_cores, default_workers
from serving.http.proxies import Network

# Settings that hold passwords, or may.
SECRET = ("api_keys", "otel_exporter_otlp_endpoint", "redis_url")
SHOWN_CHARACTERS = 80
# Beyond these a value is a mistake: workers or threads, a day, ten years.
MAX_PROCESSES = 1_024
MAX_SECONDS = 86_400
MAX_TTL_SECONDS = 315_360_000
# As a browser sends it: scheme, host and port in lower case, no path.
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*+://(?:[^/?#@\s:A-Z]++|\[[0-9a-f:]++\])(?::[0-9]++)?+")


class Settings(BaseSettings):
    """Settings of the server, read from the environment once, when `service.py` is imported."""

    model_config = SettingsConfigDict(env_ignore_empty=True, allow_inf_nan=False)

    models: Annotated[list[str], NoDecode] = Field(
        default_factory=models.names, description="Models to serve, separated by commas; all by default."
    )
    workers: int = Field(
        default_factory=default_workers,
        ge=1,
        le=MAX_PROCESSES,
        description="Worker processes, each with its own models and memory; one for every four cores by default.",
    )
    session_threads: int = Field(
        default_factory=lambda known: max(1, available_cores() // known.get("workers", 1)),
        ge=1,
        le=MAX_PROCESSES,
        description="Threads of one model's inference in a worker; a worker's share of the cores by default.",
    )
    timeout_seconds: float = Field(
        default=10.0, gt=0, le=MAX_SECONDS, description="Seconds after which a request is given up with status 504."
    )
    queue_seconds: float = Field(
        default=2.0,
        gt=0,
        le=MAX_SECONDS,
        description="Longest wait for inference that is accepted; over it status 503.",
    )
    queue_items: int = Field(default=20_000, ge=1, description="Most items that wait for a model; over it status 503.")
    linger_seconds: float = Field(
        default=0.002, ge=0, le=1, description="How long a busy model waits for more items while its batch is not full."
    )
    max_batch: int | None = Field(
        default=None, ge=1, description="Most items in one run of a model; by default what each model's file says."
    )
    shutdown_grace_seconds: float = Field(
        default=5.0,
        ge=0,
        le=MAX_SECONDS,
        description="Seconds after SIGTERM in which requests are taken but /readyz says no.",
    )
    body_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        le=MAX_SECONDS,
        description="Seconds in which a body must arrive, or 64 KiB more of it; over it status 408.",
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
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Origins whose pages may ask, separated by commas, such as https://app.example; * for all.",
    )
    cache_ttl_seconds: float = Field(
        default=180.0,
        ge=0,
        le=MAX_TTL_SECONDS,
        description="Seconds for which predictions and answers are kept; 0 turns the caches off.",
    )
    cache_max_bytes: int = Field(
        default=64 * 2**20, ge=0, description="Memory of a worker's prediction cache in bytes; 0 turns it off."
    )
    response_cache_max_bytes: int = Field(
        default=32 * 2**20, ge=0, description="Memory of a worker's response cache in bytes; 0 turns it off."
    )
    redis_url: str = Field(
        default="",
        description="Redis that shares the prediction cache and the rate limit: redis://, rediss:// (TLS), unix://, "
        "cluster+redis://node or sentinel+redis://sentinel,sentinel/master.",
    )
    redis_prefix: str = Field(default="tiffin:", description="What the names of our keys in Redis start with.")
    redis_timeout_seconds: float = Field(
        default=0.05,
        gt=0,
        le=MAX_SECONDS,
        description="Longest that a request waits for Redis, once; then it is passed over.",
    )
    api_keys: Annotated[list[str], NoDecode] = Field(
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
    otel_exporter_otlp_endpoint: str = Field(
        default="", description="Collector to which traces are sent by OTLP over HTTP, such as http://localhost:4318."
    )
    access_log: bool = Field(default=False, description="Write a line to the log for every request.")

    @field_validator("models", mode="before")
    @classmethod
    def split_names(cls, value: object) -> object:
        """The names in 'a, b' as a list; each must be a model of this project."""
        names = split(value)
        if not names:
            raise ValueError(f"names no model; models/ has {', '.join(models.names())}")
        return list(dict.fromkeys(map(models.check, names))) if isinstance(names, list) else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def split_keys(cls, value: object) -> object:
        """Return the keys in 'a, b' as a list; commas alone would admit everybody."""
        keys = split(value)
        if value and not keys:
            raise ValueError("holds no key; unset it to admit everybody")
        return keys

    @field_validator("cors_origins", mode="before")
    @classmethod
    def split_origins(cls, value: object) -> object:
        """Return the origins in 'a, b' as a list."""
        return split(value)

    @field_validator("cors_origins")
    @classmethod
    def check_origins(cls, origins: list[str]) -> list[str]:
        """An address with a path or a slash at its end would never match what a browser sends."""
        for origin in origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(
                    "must be * or origins such as https://app.example:8443, without a path or slash at the end"
                )
        return origins

    @field_validator("api_keys_file")
    @classmethod
    def readable(cls, value: Path | None) -> Path | None:
        """A file that cannot be read, or holds no keys, would lock everybody out."""
        if value is not None:
            try:
                read_keys(value)
            except OSError as error:
                raise ValueError(f"{value} cannot be read: {error.strerror}") from error
        return value

    @field_validator("rate_limit", mode="before")
    @classmethod
    def parse_limit(cls, value: object) -> object:
        """The limit that '100/minute' means."""
        wrong = "must be a number of requests and a time, such as 100/minute"
        try:
            limit = parse(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(wrong) from error
        if isinstance(limit, RateLimitItem) and not (limit.amount and limit.get_expiry()):
            raise ValueError(wrong)
        return limit

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def parse_networks(cls, value: object) -> object:
        """Return the networks in '10.0.0.0/8, ::1' as a list."""
        parts = split(value)
        return [network(part) for part in parts] if isinstance(parts, list) else value

    @field_validator("redis_url")
    @classmethod
    def connectable(cls, value: str) -> str:
        """A URL that redis-py does not understand would end the server with a traceback."""
        if value:
            from serving.redis_client import connect  # takes 0.3 s of a start, which those without Redis are spared

            connect(value, timeout_seconds=1)
        return value


def split(value: object) -> object:
    """'a, b' as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def network(value: object) -> Network:
    """Return an address or a network; ValueError that names what is neither."""
    try:
        return ip_network(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{error}; must be addresses and networks, such as 10.0.0.0/8, ::1") from error


def faults(error: ValidationError) -> list[str]:
    """Return a line for each setting that is not valid: variable, value unless it is secret, what is allowed."""
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        if problem["type"] == "default_factory_not_called":  # its default depends on another one that is not valid
            continue
        value = "" if name in SECRET else f"={shown(problem['input'])}"
        lines.append(f"{name.upper()}{value}: {allowed(name) or problem['msg'].removeprefix('Value error, ')}")
    return lines


def shown(value: object) -> str:
    """Return a value as it fits a line."""
    text = str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def allowed(name: str) -> str | None:
    """Return what values a number or a switch may have; None for other settings, whose validators tell."""
    field = Settings.model_fields[name]
    if field.annotation is bool:
        return "must be true or false"
    if field.annotation is float:
        kind = "a number"
    elif field.annotation in (int, int | None):
        kind = "a whole number"
    else:
        return None
    words = {"ge": "from {} on", "gt": "greater than {}", "le": "up to {}"}
    bounds = [
        text.format(getattr(bound, key))
        for bound in field.metadata
        for key, text in words.items()
        if hasattr(bound, key)
    ]
    return f"must be {kind} {', '.join(bounds)}"
