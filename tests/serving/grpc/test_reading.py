"""Reading of messages from real clients: few at a time, none for long while others wait, and nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc.aio import ServicerContext

from serving.grpc.errors import CallError
from serving.grpc.reading import Reads
from serving.http.body import BytesInFlight
from tests.support.clocks import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("one_loop")]
LARGEST = 2**22
# Of a stream that nobody reads.
WINDOW_BYTES = 2**16
METHOD = "/test.Reads/Read"


@asynccontextmanager
async def server(reads: Reads, seconds: float = 60) -> AsyncIterator[int]:
    """Serve a method that reads a message and answers how many bytes it has; yield its port."""

    async def answer(_: Any, context: ServicerContext) -> bytes:
        try:
            held = await reads.read(context, seconds)
        except CallError as error:
            await context.abort(error.code, str(error))
            raise
        return b"none" if held is None else str(len(held.message)).encode()

    handler = grpc.method_handlers_generic_handler("test.Reads", {"Read": grpc.stream_unary_rpc_method_handler(answer)})
    options = [("grpc.max_receive_message_length", LARGEST)]
    started = grpc.aio.server(handlers=[handler], options=options)
    port = started.add_insecure_port("127.0.0.1:0")
    await started.start()
    yield port
    await started.stop(None)


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as opened:
        yield opened


def silent(opened: grpc.aio.Channel) -> Any:
    """Begin a call that sends nothing."""
    return opened.stream_unary(METHOD)()


def send(opened: grpc.aio.Channel, size: int) -> Any:
    """Begin a call that sends a message."""
    return opened.unary_unary(METHOD)(bytes(size), timeout=60)


def reads_of(slots: int) -> Reads:
    """Return what reads at most this many messages at a time."""
    reads = Reads(BytesInFlight(2 * slots * LARGEST), LARGEST)
    assert reads.slots == slots
    return reads


async def all_read(reads: Reads, count: int) -> None:
    """Wait until so many messages are being read, or wait to be."""

    async def reached() -> bool:
        return len(reads.reading) + len(reads.waiting) == count

    await eventually(reached)


async def test_messages_of_any_size_are_read() -> None:
    async with server(reads_of(1)) as port, channel(port) as opened:
        for size in (0, 1, WINDOW_BYTES * 3, LARGEST):
            assert await send(opened, size) == str(size).encode()


async def test_more_than_fit_are_read_one_after_the_other() -> None:
    async with server(reads_of(2)) as port, channel(port) as opened:
        answers = await asyncio.gather(*(send(opened, LARGEST) for _ in range(20)))
        assert answers == [str(LARGEST).encode()] * 20


async def test_what_is_in_flight_leaves_less_room_for_reading_but_always_some() -> None:
    reads = reads_of(4)
    reads.in_flight.bytes = 4 * LARGEST
    assert reads.slots == 2
    reads.in_flight.bytes = 8 * LARGEST
    assert reads.slots == 1


async def test_clients_that_send_nothing_do_not_shut_out_others() -> None:
    reads = reads_of(1)
    async with server(reads) as port, channel(port) as attacker, channel(port) as opened:
        calls = [silent(attacker) for _ in range(50)]
        await all_read(reads, 50)
        for _ in range(10):
            assert await send(opened, 1_000) == b"1000"
        for call in calls:
            call.cancel()
        await all_read(reads, 0)


async def test_a_message_that_takes_long_is_given_up_where_others_wait() -> None:
    reads = reads_of(1)
    async with server(reads) as port, channel(port) as opened:
        slow = silent(opened)
        await all_read(reads, 1)
        assert await send(opened, 10) == b"10"
        assert await slow.code() is StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_that_takes_long_is_read_where_nobody_waits() -> None:
    reads = reads_of(2)
    async with server(reads) as port, channel(port) as opened:
        slow = silent(opened)
        await all_read(reads, 1)
        assert await send(opened, 10) == b"10"
        await slow.write(b"late")
        await slow.done_writing()
        assert await slow == b"4"


async def test_of_too_many_that_wait_the_oldest_are_refused() -> None:
    reads = Reads(BytesInFlight(2 * LARGEST), LARGEST, max_waiting=1)
    async with server(reads) as port, channel(port) as opened:
        calls = []
        for count in range(3):
            calls.append(silent(opened))
            await all_read(reads, min(count + 1, 2))
        assert await calls[1].code() is StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        await all_read(reads, 0)


async def test_a_message_that_does_not_come_in_time_ends_its_call() -> None:
    reads = reads_of(1)
    async with server(reads, seconds=0.05) as port, channel(port) as opened:
        call = silent(opened)
        assert await call.code() is StatusCode.DEADLINE_EXCEEDED
        await all_read(reads, 0)


async def test_a_client_that_leaves_stops_being_counted() -> None:
    reads = reads_of(1)
    async with server(reads) as port, channel(port) as opened:
        calls = [silent(opened) for _ in range(3)]
        await all_read(reads, 3)
        for call in calls:
            call.cancel()
        await all_read(reads, 0)
        assert await send(opened, 10) == b"10"
