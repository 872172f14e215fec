"""TCP servers in threads, such as one with a fixed reply, or a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from tests.support.clocks import START_SECONDS

COMMAND = re.compile(rb"\*\d+\r\n")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.contextmanager
def tcp_server(handle: Handler, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a TCP server in a thread, with `handle` called for each connection; yield its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(START_SECONDS)

    async def handle_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # asyncio would log it
            await handle(reader, writer)

    server = call(asyncio.start_server(handle_quietly, "127.0.0.1", port, ssl=tls))

    async def end() -> None:
        server.close()
        handlers = asyncio.all_tasks() - {asyncio.current_task()}
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        call(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)
        loop.close()


def replying(reply: bytes) -> Handler:
    """Return a handler that sends the same reply to every Redis command."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while chunk := await reader.read(2**16):
                # A pipeline sends several commands at once.
                writer.write(reply * len(COMMAND.findall(chunk)))

    return handle


def forwarding(port: int, delay_seconds: float = 0.0) -> Handler:
    """Return a handler that proxies to `port` on this machine, delaying each chunk in both directions."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while chunk := await reader.read(2**16):
                await asyncio.sleep(delay_seconds)
                writer.write(chunk)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    return handle
