"""The memory cache."""

from __future__ import annotations

import numpy as np

from serving.cache import ENTRY_BYTES, MemoryCache

OUTPUT = np.arange(4, dtype=np.float32)
ENTRY = OUTPUT.nbytes + ENTRY_BYTES


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_kept_output_is_found() -> None:
    cache = MemoryCache(max_bytes=10 * ENTRY, ttl_seconds=180)
    cache.put(b"a", OUTPUT)
    assert np.array_equal(cache.get(b"a"), OUTPUT)  # type: ignore[arg-type]
    assert cache.get(b"b") is None


def test_an_output_is_gone_after_its_time_to_live() -> None:
    clock = Clock()
    cache = MemoryCache(10 * ENTRY, 180, clock)
    cache.put(b"a", OUTPUT)
    clock.now += 179
    assert cache.get(b"a") is not None
    clock.now += 1
    assert cache.get(b"a") is None
    assert cache.bytes == 0


def test_keeping_again_renews_the_time_to_live() -> None:
    clock = Clock()
    cache = MemoryCache(10 * ENTRY, 180, clock)
    cache.put(b"a", OUTPUT)
    clock.now += 100
    cache.put(b"a", OUTPUT + 1)
    clock.now += 100
    found = cache.get(b"a")
    assert found is not None
    assert found[0] == 1
    assert cache.bytes == ENTRY


def test_the_least_recently_used_goes_first() -> None:
    cache = MemoryCache(2 * ENTRY, 180)
    cache.put(b"a", OUTPUT)
    cache.put(b"b", OUTPUT)
    cache.get(b"a")
    cache.put(b"c", OUTPUT)
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.get(b"c") is not None
    assert cache.bytes == 2 * ENTRY


def test_no_output_is_kept_that_is_larger_than_the_cache() -> None:
    cache = MemoryCache(ENTRY, 180)
    cache.put(b"a", np.zeros(1000))
    assert cache.get(b"a") is None
    assert cache.bytes == 0


def test_a_row_does_not_keep_its_batch_alive() -> None:
    cache = MemoryCache(10 * ENTRY, 180)
    batch = np.zeros((1000, 4))
    cache.put(b"a", batch[0])
    found = cache.get(b"a")
    assert found is not None
    assert found.base is None
