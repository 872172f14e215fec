"""Measure what an explanation takes beside a prediction, and what explanations cost interactive requests."""

from __future__ import annotations

import io
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from PIL import Image

from benchmarks.job_beside import CAPACITY_TEXTS, JOB_RUN_SECONDS, PATH, Interactive
from benchmarks.speed_bench import SpeedBench, say
from benchmarks.wrk import wrk
from loadtest import inputs
from loadtest.processes import tiffin

# Nothing is taken from a cache: every request counts.
FRESH = {"Cache-Control": "no-cache, no-store"}
WORDS = 25
SIDES = (32, 224)
# How many clients ask for one explanation after the other.
CLIENTS = 2


def text(number: int) -> str:
    """Return a text of WORDS words that no other has."""
    words = " ".join(inputs.text(number * 100 + part) for part in range(12)).split()
    return " ".join([*words[: WORDS - 1], str(number)])


def picture(number: int, side: int) -> bytes:
    """Return a JPEG file of so many pixels a side."""
    file = io.BytesIO()
    image = Image.open(io.BytesIO(inputs.pictures()[number % inputs.PICTURES])).resize((side, side))
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def pictures(side: int) -> Callable[[int], dict[str, Any]]:
    """Return a function that gives the arguments of the n-th request for httpx, with a picture of this size."""
    return lambda number: {"files": {"image_file": ("a.jpg", picture(number, side))}}


# By what a request holds: the model, and the arguments of the n-th request for httpx.
KINDS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    f"a text of {WORDS} words": ("sentiment", lambda number: {"json": {"text": [text(number)]}}),
    **{f"a picture of {side} x {side}": ("image", pictures(side)) for side in SIDES},
    "a row of six columns": ("breast_cancer", lambda number: {"json": inputs.tumour(number)}),
    "a row of the GLM": ("segmentation", lambda number: {"json": {"data": [inputs.customer(number)]}}),
}


def seconds(client: httpx.Client, path: str, bodies: list[dict[str, Any]]) -> float:
    """Return the median of the seconds that requests take."""
    taken = []
    for body in bodies:
        started = time.perf_counter()
        client.post(path, headers=FRESH, **body).raise_for_status()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def explaining(bench: SpeedBench) -> None:
    """Compare explanations with predictions, of each model, one request at a time."""
    with tiffin(bench.home) as address, httpx.Client(base_url=address, timeout=60) as client:
        for kind, (model, body) in KINDS.items():

            def measure(
                number: int, model: str = model, body: Callable[[int], dict[str, Any]] = body
            ) -> tuple[float, float]:
                bodies = [body(20 * number + place) for place in range(max(3, round(bench.seconds)))]
                predict, explain = (seconds(client, f"/{model}/{route}", bodies) for route in ("predict", "explain"))
                return explain * 1000, predict * 1000

            measure(-1)
            ratio, a, b = bench.ratio(measure)
            say(f"explaining {kind}", ratio, "x a prediction", f"{a:.1f} : {b:.1f} ms")


class Explanations:
    """Clients that ask for one explanation after the other until the context ends."""

    def __init__(self, address: str, first: int) -> None:
        self.address = address
        self.next = first
        self.done = 0
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]

    def ask(self) -> None:
        """Ask for explanations, each of a text of its own; refused ones do not count."""
        with httpx.Client(base_url=self.address, timeout=60) as client:
            while not self.ending.is_set():
                with self.lock:
                    self.next += 1
                    body = {"text": [text(self.next)]}
                response = client.post("/sentiment/explain", json=body)
                with self.lock:
                    self.done += response.is_success
                if not response.is_success:
                    self.ending.wait(1)

    def __enter__(self) -> Explanations:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join()


def explaining_beside(bench: SpeedBench) -> None:
    """Offer half of the capacity in an open loop, without and with explanations beside it."""
    bodies = bench.bodies("texts", ({"text": [inputs.text(number)]} for number in range(CAPACITY_TEXTS)))
    with tiffin(bench.home, models="sentiment") as address:
        wrk(address, PATH, bodies, 16, bench.seconds / 2)
        capacity = wrk(address, PATH, bodies, 16, bench.seconds, 10_000).per_second
        interactive = Interactive(address, capacity / 2, 5 * bench.seconds)
        done: list[float] = []

        def measure(number: int) -> tuple[float, float]:
            without = interactive.p99()
            started = time.perf_counter()
            with Explanations(address, 10**6 * (3 + number)) as explanations:
                beside = interactive.p99()
            done.append(explanations.done / (time.perf_counter() - started))
            return beside, 1.5 * without + JOB_RUN_SECONDS * 1000

        measure(0)
        done.clear()
        ratio, a, b = bench.ratio(measure)
    bound = "x 1.5 times that without, plus 20 ms"
    say("p99 at half of the capacity, beside explanations", ratio, bound, f"{a:.1f} : {b:.1f} ms")
    say("explanations beside half of the capacity", statistics.median(done), "explanations/s", f"{CLIENTS} clients")
