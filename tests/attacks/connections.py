"""Attacks by connections: slow and endless requests, unread responses, floods, guessed keys."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

from tests.attacks.attackers import JSON, Attack, Victim, connected, flood, hold, request, together
from tests.support.rows import ROW, TUMOUR

PATH = "/breast_cancer/predict"
HOST = b"Host: localhost\r\n"
START = b"POST /breast_cancer/predict HTTP/1.1\r\n" + HOST
JSON_HEADER = b"Content-Type: application/json\r\n"
BODY = json.dumps(TUMOUR).encode()
GET = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
FEW, MANY, FLOOD = 20, 200, 1_000
KEY = "honest"
PIPELINED = 5_000
ROWS = 10_000
# The smallest receive buffer that systems allow.
UNREAD_BYTES = 2_048


async def idle_connections(victim: Victim) -> None:
    """Open connections and say nothing."""
    await hold(victim, FLOOD, b"")


async def new_connections(victim: Victim) -> None:
    """Open connections and close them at once, as fast as possible."""

    async def attacker() -> None:
        while True:
            with contextlib.suppress(OSError):
                async with connected(victim):
                    victim.answers["opened"] += 1
            await asyncio.sleep(0)

    await together(attacker, FEW)


async def slow_headers(victim: Victim) -> None:
    """Send a header per second, and never the end of the head."""
    await hold(victim, MANY, START, b"A: b\r\n")


async def many_headers(victim: Victim) -> None:
    """Send requests with ten thousand headers."""
    headers = b"".join(b"A%d: b\r\n" % number for number in range(10_000))
    await flood(victim, [[START + JSON_HEADER + headers + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY]])


async def long_headers(victim: Victim) -> None:
    """Send requests with a header of 64 KiB, with one of 1 MB, and with a path as long."""
    heads = [
        START + JSON_HEADER + b"A: " + b"a" * size + b"\r\nContent-Length: 0\r\n\r\n" for size in (2**16 + 1, 2**20)
    ]
    path = b"GET /" + b"a" * 2**20 + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    await flood(victim, [[head] for head in [*heads, path]])


async def endless_headers(victim: Victim) -> None:
    """Send an endless head, as fast as the server reads it."""
    starts = (START + b"A: ", START + b"A", START)
    units = (b"a" * 2**16, b"a" * 2**16, b"A: b\r\n" * 2**13)
    await asyncio.gather(*(hold(victim, FEW // 4, start, unit, 0) for start, unit in zip(starts, units, strict=True)))


async def slow_bodies(victim: Victim) -> None:
    """Send a body at one byte per second."""
    await hold(victim, MANY, START + JSON_HEADER + b"Content-Length: 10000\r\n\r\n{", b" ")


async def stalled_bodies(victim: Victim) -> None:
    """Send each route most of a large body, and then nothing."""
    targets = list(victim.targets.values())

    async def stall(path: str, media_type: str, size: int) -> None:
        head = b"POST %b HTTP/1.1\r\n%bContent-Type: %b; boundary=x\r\n" % (path.encode(), HOST, media_type.encode())
        await hold(victim, FEW, head + b"Content-Length: %d\r\n\r\n" % size + b" " * min(size - 1, 2**25))

    await asyncio.gather(*(stall(target.path, target.media_type, target.max_body_bytes) for target in targets))


async def slow_chunks(victim: Victim) -> None:
    """Send a body in chunks of one byte, slowly."""
    await hold(victim, MANY, START + JSON_HEADER + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.1)


async def small_chunks(victim: Victim) -> None:
    """Send bodies in chunks of one byte, fast, and with chunk extensions longer than the chunks."""
    start = START + JSON_HEADER + b"Transfer-Encoding: chunked\r\n\r\n"
    bodies = [b"1\r\n \r\n" * 2**18, (b"1;" + b"a" * 1_000 + b"\r\n \r\n") * 2**11]
    await flood(victim, [[start + body + b"0\r\n\r\n"] for body in bodies])


async def unread_answers(victim: Victim) -> None:
    """Pipeline requests of ten thousand rows each on a connection, and read no response."""
    body = json.dumps({"data": [{}] * ROWS}).encode()
    asked = b"".join(request("/segmentation/predict", body)) * 50

    async def attacker() -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError), socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)
                connection.setblocking(False)
                await loop.sock_connect(connection, ("127.0.0.1", victim.port))
                victim.answers["opened"] += 1
                await loop.sock_sendall(connection, asked)
                await asyncio.Event().wait()
            await asyncio.sleep(0.05)

    await together(attacker, FEW)


async def pipelined(victim: Victim) -> None:
    """Pipeline thousands of requests on a connection."""
    asked = (GET + b"".join(request(PATH, BODY))) * PIPELINED
    await hold(victim, FEW // 4, asked, asked, 0)


async def upgrades(victim: Victim) -> None:
    """Ask to upgrade to HTTP/2 and to a WebSocket."""
    offers = [b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"]
    offers += [b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"]
    end = b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    await flood(
        victim, [[START + JSON_HEADER + offer + end] for offer in offers] + [[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]], FEW
    )


async def guessed_keys(victim: Victim) -> None:
    """Guess API keys."""
    requests = [request(PATH, BODY, JSON, (b"X-API-Key", b"guess %d" % number)) for number in range(1_000)]
    await flood(victim, requests, FEW)


async def many_rows(victim: Victim) -> None:
    """Send as many legal rows as a request may have."""
    body = json.dumps({"data": [ROW] * ROWS}).encode()
    await flood(victim, [request("/segmentation/predict", body)])


ATTACKS = [
    Attack("idle-connections", idle_connections),
    Attack("new-connections", new_connections),
    Attack("slow-headers", slow_headers),
    Attack("many-headers", many_headers),
    Attack("long-headers", long_headers),
    Attack("endless-headers", endless_headers),
    Attack("slow-bodies", slow_bodies),
    Attack("stalled-bodies", stalled_bodies),
    Attack("slow-chunks", slow_chunks),
    Attack("small-chunks", small_chunks),
    Attack("unread-answers", unread_answers),
    Attack("pipelined", pipelined),
    Attack("upgrades", upgrades),
    Attack("guessed-keys", guessed_keys, env={"TIFFIN_API_KEYS": KEY}),
    Attack("many-rows", many_rows),
]
