"""Waiting for Redis, with real Redis processes and with other servers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import pytest

from loadtest.processes import free_port
from serving.wait_for_redis import wait_for_redis
from tests.support import ROOT
from tests.support.clocks import START_SECONDS
from tests.support.redis_servers import RedisServer
from tests.support.tcp_servers import replying, tcp_server

pytestmark = pytest.mark.anyio


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "serving.wait_for_redis", *arguments],
        cwd=ROOT,
        env={**os.environ, "TIFFIN_REDIS_URL": url},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def test_the_program_says_that_redis_answers(redis_server: RedisServer) -> None:
    done = run(redis_server.url)
    assert done.stdout.startswith("Redis answers after ")
    assert done.returncode == 0


def test_the_program_ends_without_an_error_when_there_is_no_redis() -> None:
    done = run(f"redis://127.0.0.1:{free_port()}", "0.5")
    assert done.stdout.startswith("Redis does not answer after 0.5 s, going on without it: ConnectionError")
    assert done.returncode == 0


async def test_it_waits_for_a_redis_that_comes_later(stopped_redis: RedisServer) -> None:
    waiting = asyncio.create_task(wait_for_redis(stopped_redis.url, START_SECONDS))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    await asyncio.to_thread(stopped_redis.start)
    assert (await waiting).startswith("Redis answers after ")


async def test_a_cluster_answers(cluster: RedisServer) -> None:
    assert (await wait_for_redis(f"cluster+{cluster.url}", START_SECONDS)).startswith("Redis answers after ")


async def test_a_redis_that_does_not_permit_ping_answers(redis_server: RedisServer) -> None:
    redis_server.execute("ACL", "SETUSER", "tiffin", "on", ">pass", "+mget")
    said = await wait_for_redis(f"redis://tiffin:pass@127.0.0.1:{redis_server.port}", START_SECONDS)
    assert said.startswith("Redis answers after ")


async def test_a_name_that_is_not_known_is_told() -> None:
    said = await wait_for_redis("redis://redis.invalid:6379", 0.5)
    assert "redis.invalid" in said
    assert said.startswith("Redis does not answer after 0.5 s")


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-NOAUTH Authentication required.\r\n"])
async def test_what_does_not_answer_as_redis_is_given_up_in_time(reply: bytes) -> None:
    with tcp_server(replying(reply)) as port:
        started = time.monotonic()
        said = await wait_for_redis(f"redis://127.0.0.1:{port}", 0.5)
    assert said.startswith("Redis does not answer after 0.5 s")
    assert time.monotonic() - started < START_SECONDS / 2


async def test_no_url_is_not_waited_for() -> None:
    assert await wait_for_redis("", 60) == "TIFFIN_REDIS_URL is not set: there is no Redis to wait for"


@pytest.mark.parametrize("url", ["redis.example:6379", "redis://host:port"])
async def test_a_url_that_is_not_valid_is_not_waited_for(url: str) -> None:
    assert (await wait_for_redis(url, 60)).startswith("TIFFIN_REDIS_URL is not valid: ")


async def test_the_password_is_not_told() -> None:
    assert "secret" not in await wait_for_redis(f"redis://user:secret@127.0.0.1:{free_port()}", 0.5)
