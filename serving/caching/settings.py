"""The settings of the caches and of Redis."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings

from serving.setting_types import MAX_TTL_SECONDS, Seconds, Secret


class CacheSettings(BaseSettings):
    """Settings of the caches and of Redis, a part of `Settings`."""

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
    redis_url: Secret | None = Field(
        default=None,
        description="Redis that shares the prediction cache and the rate limit: redis://, rediss:// (TLS), unix://, "
        "cluster+redis://node or sentinel+redis://sentinel,sentinel/master.",
    )
    redis_prefix: str = Field(
        default="tiffin:", min_length=1, description="What the names of our keys in Redis start with."
    )
    redis_timeout_seconds: Seconds = Field(
        default=0.05, description="Longest that a request waits for Redis, once; then it is passed over."
    )

    @field_validator("redis_url")
    @classmethod
    def is_redis(cls, value: SecretStr | None) -> SecretStr | None:
        """Refuse a URL that redis-py does not understand, which would end the server with a traceback."""
        if value is not None:
            # The import takes 0.3 s, which a start without Redis is spared.
            from serving.caching.redis_client import connect

            connect(value.get_secret_value(), timeout_seconds=1)
        return value
