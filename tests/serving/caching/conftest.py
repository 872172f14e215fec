"""Fixtures of the tests of the Redis tier."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from serving.caching.redis_tier import (
    RedisCache,
)
from tests.support.redis_caches import (
    cache_at,
)
from tests.support.redis_servers import RedisServer


@pytest.fixture
async def cache(redis_server: RedisServer) -> AsyncIterator[RedisCache]:
    async with cache_at(redis_server.url) as cache:
        yield cache
