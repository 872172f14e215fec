"""The watches notice a server that pauses, grows, ends or responds wrongly; the servers here are stubs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.attacks.bench import Measurement, faults_of
from tests.attacks.honest import Request, Result, honest_client
from tests.attacks.targets import Target
from tests.attacks.watch import KILL_BYTES, MAX_MEMORY_BYTES, MemoryWatch, Pause, PauseWatch, json_seconds, part_takes
from tests.fuzz_large import LargeBody, send_to

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
TARGET = Target("/model/predict", "application/json", {"properties": {"items": {"type": "array"}}}, 2**20)
BODY = LargeBody("legal", 1_000, lambda size: b"0".ljust(size), 200)
# No server here pauses this long unless it is asked to.
PATIENCE_SECONDS = 20.0


@contextlib.contextmanager
def stub(answer: Callable[[], bytes]) -> Iterator[int]:
    """Yield the port of a server in a thread, which responds to POST with `answer` and to others with 200."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"Content-Length: " in head:
                    await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
                writer.write(answer() if head.startswith(b"POST") else OK)
                await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(close(server), loop).result(PATIENCE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def close(server: asyncio.Server) -> None:
    """Close a server and its connections."""
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def faults(answer: Callable[[], bytes], noise_seconds: float) -> list[str]:
    """Send a server one body; return the faults."""
    with stub(answer) as port, MemoryWatch(lambda: 0, never) as memory, PauseWatch(port) as pauses:
        outcome = asyncio.run(send_to(TARGET, iter([BODY]), port, memory, pauses, noise_seconds))
    return [failure.fault for failure in outcome.failures]


def pausing(seconds: float) -> bytes:
    time.sleep(seconds)
    return OK


def never() -> None:
    raise AssertionError("killed")


def status(line: bytes) -> bytes:
    return OK.replace(b"200 OK", line)


def test_a_good_server_passes() -> None:
    assert faults(lambda: OK, PATIENCE_SECONDS) == []


def test_a_pause_fails() -> None:
    (fault,) = faults(functools.partial(pausing, 0.4), 0.1)
    assert "/livez paused for 0." in fault


def test_one_pause_of_three_is_noise() -> None:
    left = iter([0.4, 0.4])
    assert faults(lambda: pausing(next(left, 0)), 0.2) == []


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (status(b"500 Internal Server Error"), "status 500"),
        (status(b"502 Bad Gateway"), "status 502"),
        (status(b"503 Service Unavailable"), "503 without Retry-After"),
        (status(b"422 Unprocessable Entity"), "status 422 with a body of"),
        (OK.replace(b"200", b"201"), "status 201 in place of 200"),
        (b"HTTP/1.1 nonsense\r\n\r\n", "no answer"),
    ],
)
def test_a_wrong_answer_fails(answer: bytes, fault: str) -> None:
    (found,) = faults(lambda: answer, PATIENCE_SECONDS)
    assert fault in found


def test_memory_over_the_limit_fails() -> None:
    with (
        stub(lambda: OK) as port,
        PauseWatch(port) as pauses,
        MemoryWatch(lambda: MAX_MEMORY_BYTES + 1, never) as memory,
    ):
        outcome = asyncio.run(send_to(TARGET, iter([BODY]), port, memory, pauses, PATIENCE_SECONDS))
    assert [failure.fault for failure in outcome.failures] == ["memory reached 2048 MiB"]


def test_memory_that_is_taken_for_a_moment_is_seen() -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    with MemoryWatch(lambda: process.memory_info().rss, never) as memory:
        held = b"a" * 2**27
        deadline = time.monotonic() + PATIENCE_SECONDS
        while memory.peak_bytes < before + 2**26 and time.monotonic() < deadline:
            time.sleep(0.01)
        del held
    assert memory.peak_bytes >= before + 2**26


def test_a_process_that_ends_is_seen() -> None:
    def read() -> int:
        raise psutil.NoSuchProcess(1)

    with MemoryWatch(read, never) as memory:
        memory.thread.join(PATIENCE_SECONDS)
        assert memory.lost


def test_a_server_that_takes_the_machine_is_ended() -> None:
    killed = threading.Event()
    with MemoryWatch(lambda: KILL_BYTES + 1, killed.set) as memory:
        assert killed.wait(PATIENCE_SECONDS)
    assert memory.lost


def test_a_pause_is_measured_by_json_loads() -> None:
    assert Pause(1.0, 2.0).fits(0)
    assert not Pause(1.1, 2.0).fits(0)
    assert Pause(1.1, 2.0).fits(0.2)


@pytest.mark.parametrize("body", [b"[" * 2**20, b"[" + b"1" * 2**20 + b"]", b"\xff" * 2**20])
def test_what_is_no_json_is_measured_by_rows(body: bytes) -> None:
    assert json_seconds(body) > json_seconds(body[: 2**10])


def test_a_part_of_a_body_is_measured_first() -> None:
    many, one = (b"[" + part + b"0]" for part in (b"1," * 2**22, b" " * 2**22))
    assert part_takes(many, 1e-3)
    assert not part_takes(one, 60)


def test_an_honest_client_tells_what_it_got() -> None:
    answers = iter([OK, status(b"503 Service Unavailable"), status(b"500 Internal Server Error"), b""])
    requests = [Request("GET", "/livez", b"", {}), Request("POST", "/model/predict", b"{}", {})]
    with stub(lambda: next(answers, OK)) as port, honest_client(port, requests) as client:
        client.wait_until_warm()
        results = client.results()
    assert [result.status for result in results][:2] == [200, 200]


def test_an_honest_client_without_a_server_gets_no_answer() -> None:
    with stub(lambda: OK) as port:
        pass
    with honest_client(port, [Request("GET", "/livez", b"", {})]) as client:
        client.wait_until_warm()
        assert client.results()[0].status == 0


def result(status: int, seconds: float = 0.01) -> Result:
    return Result(0, seconds, status)


def test_what_overload_gives_to_the_honest_is_allowed() -> None:
    assert faults_of([result(status) for status in (200, 429, 503, 504)], 2**20) == []


@pytest.mark.parametrize(
    ("during", "peak_bytes", "fault"),
    [
        ([result(200), result(500)], 0, "1 honest requests got 500"),
        ([result(0)] * 2, 0, "2 honest requests got no answer"),
        ([result(408)], 0, "1 honest requests got 408"),
        ([], 0, "no honest request was answered"),
        ([result(200)], MAX_MEMORY_BYTES + 2**20, "memory reached 2049 MiB"),
    ],
)
def test_what_an_attack_must_not_do(during: list[Result], peak_bytes: int, fault: str) -> None:
    assert faults_of(during, peak_bytes) == [fault]


def test_a_row_tells_the_slowdown() -> None:
    alone = [result(200, 0.01)] * 100
    during = [result(200, 0.01)] * 98 + [result(503, 0.05)] * 2
    row = Measurement("slow", alone, during, 2**28, Counter({"413": 1_000}), []).row()
    assert row == "| slow | 5.0 | 200: 98, 503: 2 | 256 MiB | 413: 1,000 |"
