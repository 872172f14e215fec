"""API keys and the rate limit, counted in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from limits import parse

from loadtest.processes import free_port
from serving.caching.redis_client import RedisClient
from serving.caching.redis_tier import RedisCache
from serving.http.access import MAX_GIVEN_KEYS, ApiKeys, MemoryCounts, RateLimit, read_keys
from tests.support.clocks import eventually, wait_until
from tests.support.redis_caches import OUTPUT, TIMEOUT_SECONDS, kept
from tests.support.redis_servers import RedisServer

pytestmark = pytest.mark.anyio

PREFIX = "tiffin:"
RELOAD_LIMIT_SECONDS = 60


Headers = dict[bytes, bytes] | list[tuple[bytes, bytes]]


def admits(keys: ApiKeys, key: str) -> bool:
    return keys.owner({b"x-api-key": key.encode()}) is not None


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("first\n\n  second  \r\nthird")
    return path


def rotate(path: Path, text: str) -> None:
    """Replace a file atomically, as Kubernetes does."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


# API keys.


def test_no_key_is_required_when_none_is_set() -> None:
    assert not ApiKeys([], None).required


def test_keys_are_required_when_some_are_set(key_file: Path) -> None:
    assert ApiKeys(["a"], None).required
    assert ApiKeys([], key_file).required


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer a"},
        {b"authorization": b"bearer  a "},
        {b"x-api-key": b"a"},
        {b"x-api-key": "ключ".encode()},
        {b"x-api-key": b"b", b"authorization": b"Basic YTpi"},
        {b"x-api-key": b"a", b"authorization": b"Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"},
        {b"x-api-key": b"stale", b"authorization": b"Bearer a"},
        [(b"x-api-key", b"stale"), (b"x-api-key", b"a")],
        [(b"authorization", b"Basic YTpi"), (b"authorization", b"Bearer c"), (b"authorization", b"Bearer a")],
    ],
    ids=str,
)
def test_each_key_is_admitted_in_either_header_and_any_line(headers: Headers) -> None:
    assert ApiKeys(["a", "b", "ключ"], None).owner(headers) is not None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer c"},
        {b"authorization": b"Basic a"},
        {b"authorization": b"a"},
        {b"authorization": b"Bearer c", b"x-api-key": b"c"},
        [(b"x-api-key", b"c")] * MAX_GIVEN_KEYS + [(b"x-api-key", b"a")],
        [(b"x-forwarded-api-key", b"a")],
        {b"x-api-key": b""},
        {b"x-api-key": b"A"},
        {b"x-api-key": b"a,b"},
        {b"x-api-key": b"\xff\x00"},
    ],
    ids=str,
)
def test_without_a_valid_key_nobody_is_admitted(headers: Headers) -> None:
    assert ApiKeys(["a", "b"], None).owner(headers) is None


def test_each_key_has_an_owner_of_its_own_whose_name_does_not_tell_it() -> None:
    keys = ApiKeys(["secret", "other"], None)
    owners = [keys.owner({b"authorization": b"Bearer " + key}) for key in (b"secret", b"other", b"secret")]
    assert owners[0] == owners[2] != owners[1]
    assert "secret" not in str(owners[0])


def test_each_line_of_the_file_is_a_key_beside_those_of_the_settings(key_file: Path) -> None:
    keys = ApiKeys(["set"], key_file)
    assert all(admits(keys, key) for key in ("set", "first", "second", "third"))
    assert not any(admits(keys, key) for key in ("", " ", "fourth"))


def test_the_file_is_read_again_when_it_is_rotated(key_file: Path) -> None:
    keys = ApiKeys(["set"], key_file)
    rotate(key_file, "fourth\n")
    wait_until(lambda: admits(keys, "fourth"), RELOAD_LIMIT_SECONDS)
    assert not admits(keys, "first")
    assert admits(keys, "set")


def test_a_rotation_at_the_same_time_and_of_the_same_size_is_seen(key_file: Path) -> None:
    keys = ApiKeys([], key_file)
    before = key_file.stat()
    rotate(key_file, key_file.read_text(encoding="utf-8").replace("first", "other"))
    os.utime(key_file, ns=(before.st_atime_ns, before.st_mtime_ns))
    wait_until(lambda: admits(keys, "other"), RELOAD_LIMIT_SECONDS)


def test_while_the_file_is_gone_the_keys_stay(key_file: Path) -> None:
    keys = ApiKeys([], key_file)
    key_file.unlink()
    keys.checked = float("-inf")  # makes the file due for another look
    assert admits(keys, "first")
    assert keys.required
    key_file.write_text("fourth")
    wait_until(lambda: admits(keys, "fourth"), RELOAD_LIMIT_SECONDS)


TEXTS = {
    "utf-8": b"secret\nother\n",
    "windows": b"secret\r\nother",
    "utf-8 with a mark": b"\xef\xbb\xbfsecret\r\nother\r\n",
    "utf-16": "secret\r\nother\r\n".encode("utf-16"),
    "utf-16, the other end first": b"\xfe\xff" + "secret\nother\n".encode("utf-16-be"),
    "spaces": b"\n  secret\t\r\n\n other \n\n",
}
NO_KEYS = {
    "empty": (b"", "holds no keys"),
    "a mark alone": (b"\xef\xbb\xbf", "holds no keys"),
    "lines without any": (b" \r\n\n\t\n", "holds no keys"),
    "utf-16 without a mark": ("secret\n".encode("utf-16-le"), "is not text in UTF-8"),
    "half of a character": (b"\xff\xfes", "is not text in UTF-8"),
    "latin-1": (b"caf\xe9\n", "is not text in UTF-8"),
    "an archive": (b"\x1f\x8b\x08\0\0", "is not text in UTF-8"),
}


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_a_file_is_read_as_editors_write_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    assert read_keys(file) == [b"secret", b"other"]
    keys = ApiKeys([], file)
    assert admits(keys, "secret")
    assert not admits(keys, "\ufeffsecret")


@pytest.mark.parametrize(("content", "fault"), NO_KEYS.values(), ids=NO_KEYS)
def test_a_file_without_keys_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"keys {fault}$"):
        read_keys(file)


@pytest.mark.parametrize(("content", "fault"), NO_KEYS.values(), ids=NO_KEYS)
def test_a_file_that_loses_its_keys_changes_nothing_and_is_logged_once(
    key_file: Path, caplog: pytest.LogCaptureFixture, content: bytes, fault: str
) -> None:
    keys = ApiKeys([], key_file)
    key_file.write_bytes(content)
    for _ in range(3):
        keys.checked = float("-inf")  # makes the file due for another look
        assert admits(keys, "first")
    (record,) = caplog.records
    assert record.getMessage() == f"{key_file} {fault}; the keys stay as they were"
    rotate(key_file, "fourth")
    keys.checked = float("-inf")
    assert admits(keys, "fourth")
    assert not admits(keys, "first")


# The rate limit.


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(url, TIMEOUT_SECONDS)
    yield client
    await client.close()


async def takes(limit: RateLimit, times: int, owner: str = "anna") -> list[bool]:
    return [(await limit.take(owner)).allowed for _ in range(times)]


async def test_more_than_the_limit_is_refused() -> None:
    assert await takes(RateLimit(parse("3/hour"), None, PREFIX), 5) == [True, True, True, False, False]


async def test_each_owner_has_an_allowance_of_its_own() -> None:
    limit = RateLimit(parse("1/hour"), None, PREFIX)
    assert await takes(limit, 2, "anna") == [True, False]
    assert await takes(limit, 2, "bert") == [True, False]


async def test_in_the_next_window_it_is_allowed_again() -> None:
    limit = RateLimit(parse("1/second"), None, PREFIX)
    assert not all(await takes(limit, 10))

    async def allowed() -> bool:
        return (await limit.take("anna")).allowed

    await eventually(allowed)


def test_counts_in_memory_end_with_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = MemoryCounts(parse("1/minute"))
    now = 1_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    assert [counts.hit("anna")[0] for _ in range(2)] == [True, False]
    now += 59
    assert [counts.hit(name)[0] for name in ("anna", "bert")] == [False, True]
    now += 1
    assert [counts.hit(name)[0] for name in ("anna", "bert")] == [True, False]
    assert list(counts.windows) == ["bert", "anna"]
    now += 60
    counts.hit("carl")
    assert list(counts.windows) == ["carl"]


def test_counts_in_memory_are_bounded() -> None:
    counts = MemoryCounts(parse("1/hour"), max_owners=2)
    assert [counts.hit(name)[0] for name in ("anna", "bert", "bert", "carl", "bert", "anna")] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


async def test_headers_tell_what_is_left() -> None:
    limit = RateLimit(parse("2/minute"), None, PREFIX)
    fields = [(await limit.take("anna")).headers() for _ in range(3)]
    assert [field["RateLimit-Limit"] for field in fields] == ["2", "2", "2"]
    assert [field["RateLimit-Remaining"] for field in fields] == ["1", "0", "0"]
    assert all(1 <= int(field["RateLimit-Reset"]) <= 60 for field in fields)
    assert "Retry-After" not in fields[1]
    assert fields[2]["Retry-After"] == fields[2]["RateLimit-Reset"]


async def test_servers_with_one_redis_count_together(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as first, client_of(redis_server.url) as second:
        limits = [RateLimit(parse("3/hour"), client, PREFIX) for client in (first, second)]
        allowances = [await limit.take("anna") for limit in limits + limits]
    assert [allowance.allowed for allowance in allowances] == [True, True, True, False]
    assert [allowance.remaining for allowance in allowances] == [2, 1, 0, 0]
    assert all(1 <= allowance.reset_seconds <= 3600 for allowance in allowances)


async def test_counts_have_our_prefix_and_a_time_to_live(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as client:
        await takes(RateLimit(parse("3/hour"), client, PREFIX), 1)
    (name,) = redis_server.execute("KEYS", "*")
    assert name.startswith(PREFIX.encode())
    assert 0 < redis_server.execute("TTL", name) <= 3600


async def test_many_at_once_are_counted_together(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as first, client_of(redis_server.url) as second:
        limits = [RateLimit(parse("250/hour"), client, PREFIX) for client in (first, second)]
        allowances = await asyncio.gather(*(limits[i % 2].take("anna") for i in range(400)))
        assert sum(allowance.allowed for allowance in allowances) == 250
        assert first.circuit_closed
        assert second.circuit_closed


async def test_each_server_counts_for_itself_while_redis_is_frozen(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as client:
        limit = RateLimit(parse("2/hour"), client, PREFIX)
        assert await takes(limit, 1) == [True]
        redis_server.freeze()
        assert await takes(limit, 3) == [True, True, False]


async def test_counting_goes_on_in_redis_once_it_answers_again(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as client:
        limit = RateLimit(parse("2/hour"), client, PREFIX)
        assert await takes(limit, 2) == [True, True]
        redis_server.freeze()
        assert await takes(limit, 1) == [True]
        redis_server.thaw()

        async def available() -> bool:
            return client.circuit_closed

        await eventually(available)
        assert await takes(limit, 1) == [False]


async def test_a_restarted_redis_counts_again(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as client:
        limit = RateLimit(parse("100/hour"), client, PREFIX)
        assert await takes(limit, 1) == [True]
        redis_server.stop()
        assert await takes(limit, 1) == [True]
        redis_server.start()

        async def counted_in_redis() -> bool:
            await limit.take("anna")
            return bool(redis_server.execute("DBSIZE"))

        await eventually(counted_in_redis)


async def test_a_redis_may_be_absent() -> None:
    async with client_of(f"redis://127.0.0.1:{free_port()}") as client:
        assert await takes(RateLimit(parse("2/hour"), client, PREFIX), 3) == [True, True, False]


async def test_a_full_redis_is_counted_without_and_still_read(redis_server: RedisServer) -> None:
    async with client_of(redis_server.url) as client:
        cache = RedisCache(client, PREFIX, 60)
        assert await kept(cache, b"key", OUTPUT)
        redis_server.execute("CONFIG", "SET", "maxmemory", 1)
        assert await takes(RateLimit(parse("2/hour"), client, PREFIX), 3) == [True, True, False]
        assert list(await cache.get([b"key"])) == [b"key"]


async def test_a_cluster_with_a_password_counts(cluster: RedisServer) -> None:
    cluster.execute("CONFIG", "SET", "requirepass", "a/b")
    async with client_of(f"cluster+redis://:a%2Fb@127.0.0.1:{cluster.port}") as client:
        limits = [RateLimit(parse("2/hour"), client, PREFIX) for _ in range(3)]
        assert [(await limit.take("anna")).allowed for limit in limits] == [True, True, False]
        assert client.circuit_closed
