"""Soak a server process in mixed load for minutes; it must neither fail nor grow.

Run as `python -m tests.soak --minutes 10`. The exit code is 1 if a response is not the expected one, if a connection
fails unexpectedly, or if the server's memory grows by 3 % or more after the warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import random
import statistics
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
from PIL import Image

from tests.support.photos import saved
from tests.support.rows import ROW, TUMOUR
from tests.support.watched import KNOWN, SMALL_CACHES, WatchedServer, known_answers, same, watched

CLIENTS = 12
MAX_GROWTH = 0.03
# Memory at a moment is the median over this window.
WINDOW_SECONDS = 10
# By then caches are full and lazy loading is done. A slow machine takes longer, hence the minimum of requests.
WARM_UP_SECONDS = 60
WARM_UP_REQUESTS = 3_000
MAX_ERRORS = 20

JSON = {"content-type": "application/json"}
# Requests that must be rejected: path, arguments for httpx, status.
REFUSED: list[tuple[str, dict[str, Any], int]] = [
    ("/sentiment/predict", {"json": {"text": []}}, 422),
    ("/sentiment/infer", {"json": {"items": ["a", 1]}}, 422),
    ("/sentiment/predict", {"content": b'{"text": ["\xff"]}', "headers": JSON}, 400),
    ("/breast_cancer/predict", {"json": TUMOUR | {"area_se": -1}}, 422),
    ("/segmentation/predict", {"json": {"data": [{"x12": "much"}]}}, 422),
    ("/segmentation/predict", {"content": b"[" * 10_000, "headers": JSON}, 400),
    ("/segmentation/uploadfile", {"files": {"file": ("rows.parquet", b"PAR1" + b"\0" * 100 + b"PAR1")}}, 422),
    ("/image/predict", {"files": {"image_file": ("a.png", b"no picture")}}, 422),
    ("/image/infer", {"files": {"items": ("a.jpeg", b"\xff\xd8\xff")}}, 422),
    ("/image/predict", {"json": {}}, 415),
    ("/nothing", {"json": {}}, 404),
]


class Soak:
    """Mixed load on a server; `errors` are unexpected responses and failures."""

    def __init__(self, server: WatchedServer, client: httpx.AsyncClient, expected: list[Any]) -> None:
        self.server = server
        self.client = client
        self.expected = expected
        self.rng = random.Random(0)
        self.numbers = itertools.count()
        self.requests: Counter[str] = Counter()
        self.errors: list[str] = []
        self.over = False
        # Kinds of requests and their weights.
        self.kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.known: 30,
            self.new_texts: 15,
            self.new_tumours: 10,
            self.new_rows: 10,
            self.new_upload: 5,
            self.new_pictures: 10,
            self.refused: 10,
            self.look: 5,
            self.leave: 5,
        }

    async def run(self) -> None:
        """Keep CLIENTS requests in flight until the load is over."""

        async def work() -> None:
            while not self.over and len(self.errors) < MAX_ERRORS:
                (kind,) = self.rng.choices(list(self.kinds), list(self.kinds.values()))
                self.requests[kind.__name__] += 1
                try:
                    await kind()
                except httpx.TransportError as error:
                    self.errors.append(f"{kind.__name__}: {error!r}")

        await asyncio.gather(*(work() for _ in range(CLIENTS)))

    async def post(self, path: str, **arguments: Any) -> Any:
        """Send a request and return the parsed response; record anything but a success as an error and return None."""
        response = await self.client.post(path, **arguments)
        if response.status_code == 200:
            return response.json()
        self.errors.append(f"{path} answered {response.status_code}: {response.text[:500]}")
        return None

    def check(self, path: str, fits: bool, answer: Any) -> None:
        """Record a wrong response as an error."""
        if answer is not None and not fits:
            self.errors.append(f"{path} answered wrongly: {str(answer)[:500]}")

    async def known(self) -> None:
        """Send a known input, whose response is known."""
        number = self.rng.randrange(len(KNOWN))
        path, arguments = KNOWN[number]
        headers = {"cache-control": "no-cache"} if self.rng.random() < 0.3 else {}
        answer = await self.post(path, headers=headers, **arguments)
        self.check(path, same(answer, self.expected[number]), answer)

    async def new_texts(self) -> None:
        """Send new texts."""
        texts = [f"take {next(self.numbers)}, a wonderful film" for _ in range(self.rng.choice([1, 1, 1, 8]))]
        answer = await self.post("/sentiment/predict", json={"text": texts})
        labels = [ranked[0]["label"] for ranked in answer["predictions"]] if answer else []
        self.check("/sentiment/predict", labels == ["POSITIVE"] * len(texts), answer)

    async def new_tumours(self) -> None:
        """Send new rows, all of them malignant."""
        items = [TUMOUR | {"area_worst": 2019 + next(self.numbers) / 1e6} for _ in range(self.rng.choice([1, 100]))]
        answer = await self.post("/breast_cancer/predict", json=items[0])
        self.check("/breast_cancer/predict", answer == {"label": "M", "prediction": 1}, answer)
        outputs = await self.post("/breast_cancer/infer", json={"items": items})
        self.check("/breast_cancer/infer", outputs and len(outputs) == len(items), outputs)

    async def new_rows(self) -> None:
        """Send new rows that give the same output, since the model does not use x0."""
        rows = [ROW | {"x0": next(self.numbers)} for _ in range(self.rng.choice([1, 20]))]
        answer = await self.post("/segmentation/predict", json={"data": rows})
        expected = self.expected[4]["class_probability"][0]
        fits = answer and same(answer["class_probability"], [expected] * len(rows))
        self.check("/segmentation/predict", fits, answer)

    async def new_upload(self) -> None:
        """Send a file of new rows."""
        count = self.rng.choice([10, 1_000, 5_000])
        lines = [f"{next(self.numbers) / 1e6},monday,$3" for _ in range(count)]
        file = "\n".join(["x91,x5,x12", *lines]).encode()
        answer = await self.post("/segmentation/uploadfile", files={"file": ("rows.csv", file)})
        self.check("/segmentation/uploadfile", answer and len(answer["predicted_class"]) == count, answer)

    async def new_pictures(self) -> None:
        """Send new pictures of different sizes."""
        path, field, count = self.rng.choice([("/image/predict", "image_file", 1), ("/image/infer", "items", 3)])
        pixels = np.random.default_rng(next(self.numbers)).integers(0, 256, (8, 8, 3), np.uint8)
        size = self.rng.choice([(32, 32), (200, 100), (640, 480)])
        picture = saved(Image.fromarray(pixels).resize(size), self.rng.choice(["PNG", "JPEG", "WEBP"]))
        answer = await self.post(path, files=[(field, ("picture", picture))] * count)
        predictions = answer["predictions"] if isinstance(answer, dict) else answer or []
        self.check(path, len(predictions) == (5 if field == "image_file" else count), answer)

    async def refused(self) -> None:
        """Send an input that must be rejected."""
        path, arguments, status = self.rng.choice(REFUSED)
        response = await self.client.post(path, **arguments)
        if response.status_code != status or set(response.json()) != {"error", "detail"}:
            self.errors.append(f"{path} answered {response.status_code}, not {status}: {response.text[:500]}")

    async def look(self) -> None:
        """Request one of the routes for operators."""
        path = self.rng.choice(["/", "/docs.json", "/readyz", "/metrics", "/image/info", "/sentiment/info"])
        response = await self.client.get(path)
        if response.status_code != 200:
            self.errors.append(f"{path} answered {response.status_code}: {response.text[:500]}")

    async def leave(self) -> None:
        """Send a request or a part of one, and close the connection without waiting for the response."""
        path, arguments = self.rng.choice(KNOWN)
        request = self.client.build_request("POST", path, headers={"cache-control": "no-cache"}, **arguments)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        data = f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + await request.aread()
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(data[: self.rng.choice([len(data), len(data) // 2])])
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        await asyncio.sleep(self.rng.choice([0, 0.002, 0.02]))
        writer.transport.abort()


async def soak(server: WatchedServer, expected: list[Any], seconds: float) -> tuple[Soak, list[int], int]:
    """Load a server for `seconds`, or longer if the warm-up takes longer.

    Return the load, the server's memory in bytes every second, and the number of these samples that are warm-up.
    """
    warm_up = min(WARM_UP_SECONDS, seconds / 2)
    samples: list[int] = []
    warm = 0
    async with httpx.AsyncClient(base_url=server.address, timeout=30) as client:
        load = Soak(server, client, expected)
        running = asyncio.create_task(load.run())
        while not (running.done() or (warm and len(samples) >= warm + seconds - warm_up)):
            await asyncio.sleep(1)
            samples.append(server.memory_bytes())
            if not warm and len(samples) >= warm_up and load.requests.total() >= WARM_UP_REQUESTS:
                warm = len(samples)
        load.over = True
        await running
    return load, samples, warm


def main() -> int:
    """Run the soak and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    seconds = max(parser.parse_args().minutes * 60, 4 * WINDOW_SECONDS)
    with watched(SMALL_CACHES) as server:
        with httpx.Client(base_url=server.address, timeout=30) as client:
            expected = known_answers(client)
        start = server.memory_bytes()
        load, samples, warmed = asyncio.run(soak(server, expected, seconds))
        if load.errors:
            server.print_faults()
    warm = statistics.median(samples[warmed : warmed + WINDOW_SECONDS])
    end = statistics.median(samples[-WINDOW_SECONDS:])
    growth = end / warm - 1
    total = load.requests.total()
    print(f"{total:,} requests, {total / len(samples):.0f}/s: {dict(load.requests)}")
    print(f"MiB: {start / 2**20:.0f} at the start, {warm / 2**20:.0f} after {warmed} s, {end / 2**20:.0f} at the end")
    print(f"memory grew by {growth:.2%} after the warm-up, less than {MAX_GROWTH:.0%} is allowed")
    for error in load.errors:
        print(error)
    failed = bool(load.errors) or growth >= MAX_GROWTH
    print("failed" if failed else "passed")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
