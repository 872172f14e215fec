"""The caches in memory."""

from __future__ import annotations

import numpy as np

from models.model import Array
from serving.caching.memory import ENTRY_BYTES, MemoryCache
from serving.caching.predictions import PredictionCache
from tests.support.clocks import Clock

SIZE = 16
ENTRY = SIZE + ENTRY_BYTES


def make_cache(max_bytes: int = 10 * ENTRY, ttl_seconds: float = 180, clock: Clock | None = None) -> MemoryCache[str]:
    return MemoryCache("test", max_bytes, ttl_seconds, clock or Clock())


def test_a_kept_value_is_found_with_its_age() -> None:
    clock = Clock()
    cache = make_cache(clock=clock)
    cache.put(b"a", "A", SIZE)
    clock.now += 7
    assert cache.get(b"a") == ("A", 7)
    assert cache.get(b"b") is None


def test_a_value_is_gone_after_its_time_to_live() -> None:
    clock = Clock()
    cache = make_cache(clock=clock)
    cache.put(b"a", "A", SIZE)
    clock.now += 179
    assert cache.get(b"a") is not None
    clock.now += 1
    assert cache.get(b"a") is None
    assert cache.bytes == 0


def test_a_value_made_earlier_is_gone_earlier() -> None:
    clock = Clock()
    cache = make_cache(clock=clock)
    cache.put(b"a", "A", SIZE, age=100)
    assert cache.get(b"a") == ("A", 100)
    clock.now += 80
    assert cache.get(b"a") is None


def test_a_value_past_its_time_to_live_is_not_kept() -> None:
    cache = make_cache()
    cache.put(b"a", "A", SIZE, age=180)
    assert cache.get(b"a") is None
    assert cache.bytes == 0


def test_keeping_again_renews_the_time_to_live() -> None:
    clock = Clock()
    cache = make_cache(clock=clock)
    cache.put(b"a", "A", SIZE)
    clock.now += 100
    cache.put(b"a", "B", SIZE)
    clock.now += 100
    assert cache.get(b"a") == ("B", 100)
    assert cache.bytes == ENTRY


def test_a_value_from_the_future_is_not_given() -> None:
    clock = Clock()
    cache = make_cache(clock=clock)
    cache.put(b"a", "A", SIZE)
    clock.now -= 1  # the clock went back, so the age is unknown
    assert cache.get(b"a") is None


def test_the_least_recently_used_goes_first() -> None:
    cache = make_cache(2 * ENTRY)
    cache.put(b"a", "A", SIZE)
    cache.put(b"b", "B", SIZE)
    cache.get(b"a")
    cache.put(b"c", "C", SIZE)
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.get(b"c") is not None
    assert cache.bytes == 2 * ENTRY


def test_no_value_is_kept_that_is_larger_than_the_cache() -> None:
    cache = make_cache(ENTRY)
    cache.put(b"a", "A", 1000)
    assert cache.get(b"a") is None
    assert cache.bytes == 0


def test_a_cache_without_bytes_is_off() -> None:
    cache = make_cache(0)
    cache.put(b"a", "", 0)
    assert cache.get(b"a") is None


def test_a_cache_without_time_to_live_is_off() -> None:
    cache = make_cache(ttl_seconds=0)
    cache.put(b"a", "A", SIZE)
    assert cache.get(b"a") is None


def test_a_row_does_not_keep_its_batch_alive() -> None:
    memory: MemoryCache[Array] = MemoryCache("test", 10_000, 180)
    cache = PredictionCache(memory)
    cache.put(b"a", np.zeros((1000, 4))[0])
    found = cache.get(b"a")
    assert found is not None
    assert found[0].base is None
