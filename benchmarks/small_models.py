"""Requests to the models that compute in microseconds, against servers that have no model and no cache."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from benchmarks.speed_bench import SpeedBench, open_loop_p99, say
from benchmarks.wrk import write_bodies, wrk
from loadtest import inputs
from loadtest.processes import ROOT, free_port, redis, running, tiffin

# Few enough to be sent all during the warm-up, and so many that few are in flight twice.
KNOWN_ROWS = 2_000
# More than a server answers in a second, so that none is sent twice.
ROWS_PER_SECOND = {"breast_cancer": 10_000, "segmentation": 5_000}
CONNECTIONS = (10, 64)


@contextlib.contextmanager
def plain_fastapi() -> Iterator[str]:
    """Serve `benchmarks.plain_fastapi` with uvicorn: one worker, httptools and, where there is one, uvloop."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "uvicorn", "benchmarks.plain_fastapi:app", "--port", str(port), "--no-access-log"]
    with running([*command, "--loop", "auto", "--http", "httptools"], address, "/openapi.json", {}, ROOT):
        yield address


@contextlib.contextmanager
def bare_bento(answer: bytes = b"") -> Iterator[str]:
    """Serve `benchmarks.bare_bento` with one worker, which answers these bytes."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.bare_bento:Bare"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "answer"
        file.write_bytes(answer)
        env = {"BENTOML_HOME": folder, "BENTOML_DO_NOT_TRACK": "True", "ANSWER": str(file)}
        with running([*command, "--host", "127.0.0.1", "--port", str(port)], address, "/readyz", env, ROOT):
            yield address


def compared(
    bench: SpeedBench,
    scenario: str,
    path: str,
    bodies: Path,
    servers: tuple[str, str],
    meaning: str = "x plain FastAPI",
) -> None:
    """Compare requests per second of two servers, ours first, over 10 and over 64 connections.

    Both get the same bodies, of which ours gets none twice before the end of the file.
    """
    used = 0

    def measure(connections: int) -> tuple[float, float]:
        nonlocal used
        found = wrk(servers[0], path, bodies, connections, bench.seconds, used)
        other = wrk(servers[1], path, bodies, connections, bench.seconds, used)
        used += found.requests + connections
        return found.per_second, other.per_second

    measure(CONNECTIONS[0])
    for connections in CONNECTIONS:
        ratio, a, b = bench.ratio(lambda _, held=connections: measure(held))  # type: ignore[misc]
        say(f"{scenario}, {connections} connections", ratio, meaning, f"{a:,.0f} : {b:,.0f} requests/s")


def against_fastapi(
    bench: SpeedBench, scenario: str, bodies: Path, model: str = "breast_cancer", **settings: Any
) -> None:
    """Compare `predict` of a model with plain FastAPI's endpoint of the same schema."""
    with tiffin(bench.home, models=model, **settings) as ours, plain_fastapi() as theirs:
        compared(bench, scenario, f"/{model}/predict", bodies, (ours, theirs))


def response_cache(bench: SpeedBench) -> None:
    """Send the same request again and again."""
    against_fastapi(bench, "response cache", bench.bodies("one", [inputs.TUMOUR]))


def bare_answer(bench: SpeedBench) -> None:
    """Send the same request again and again, also to a BentoML service that answers the same bytes at once."""
    request = inputs.breast_cancer(0)
    bodies = bench.bodies("one", [json.loads(request.body)])
    with tiffin(bench.home, models="breast_cancer") as ours:
        headers = {"Content-Type": request.content_type}
        answer = httpx.post(ours + request.path, content=request.body, headers=headers).raise_for_status().content
        with bare_bento(answer) as theirs:
            meaning = "x a bare answer under BentoML"
            compared(bench, "response cache", request.path, bodies, (ours, theirs), meaning)


def known_rows(bench: SpeedBench) -> Path:
    """Return a file of few bodies, which are all known after the warm-up."""
    return bench.bodies("known", map(inputs.tumour, range(KNOWN_ROWS)))


def memory_cache(bench: SpeedBench) -> None:
    """Send items that are all in the in-memory prediction cache."""
    against_fastapi(bench, "prediction cache, memory", known_rows(bench), response_cache_max_bytes=0)


def redis_cache(bench: SpeedBench) -> None:
    """Send items that are all in Redis."""
    only: dict[str, Any] = {"response_cache_max_bytes": 0, "cache_max_bytes": 0}
    with redis() as url:
        against_fastapi(bench, "prediction cache, Redis", known_rows(bench), redis_url=url, **only)


def new_rows(bench: SpeedBench) -> None:
    """Send tumours that the server has never seen."""
    rows = map(inputs.tumour, range(most_requests(bench, "breast_cancer")))
    against_fastapi(bench, "breast_cancer, every row new", bench.bodies("rows", rows))


def open_loop(bench: SpeedBench) -> None:
    """Compare the 99th percentile of new rows: by wrk, whose next request waits for the answer, and in an open loop."""
    path = "/breast_cancer/predict"
    with tiffin(bench.home, models="breast_cancer") as ours, plain_fastapi() as theirs:
        rows = map(inputs.tumour, range(most_requests(bench, "breast_cancer")))
        bodies = bench.bodies("rows", rows)
        fresh = map(inputs.breast_cancer, itertools.count(10**9))
        used = 0
        p99: dict[str, list[tuple[float, float]]] = {"wrk": [], "open": []}
        for _ in range(1 + bench.rounds):
            found = [wrk(address, path, bodies, CONNECTIONS[0], bench.seconds, used) for address in (ours, theirs)]
            used += found[0].requests + CONNECTIONS[0]
            rate = min(load.per_second for load in found) / 4
            p99["wrk"].append((1000 * found[0].p99, 1000 * found[1].p99))
            ours_p99, theirs_p99 = (open_loop_p99(address, rate, bench.seconds, fresh) for address in (ours, theirs))
            p99["open"].append((ours_p99, theirs_p99))
    for kind, pairs in p99.items():
        ratio, a, b = bench.ratio(lambda number, pairs=pairs: pairs[number + 1])  # type: ignore[misc]
        name = "wrk, 10 connections" if kind == "wrk" else "an open loop, a quarter of the rate"
        say(f"new rows, p99 by {name}", ratio, "x plain FastAPI's", f"{a:.1f} : {b:.1f} ms")


def new_customers(bench: SpeedBench) -> None:
    """Send customers that the server has never seen."""
    request = inputs.segmentation(1)
    # A row of a hundred columns takes longer to make than to answer, so one is changed.
    before, after = json.dumps({"data": [{**inputs.customer(1), "x91": "here"}]}).encode().split(b'"here"')
    rows = (
        replace(request, body=b"%b%f%b" % (before, number / 1e5, after))
        for number in range(most_requests(bench, "segmentation"))
    )
    bodies = write_bodies(bench.folder / "customers", rows)
    against_fastapi(bench, "segmentation, every row new", bodies, "segmentation")


def most_requests(bench: SpeedBench, model: str) -> int:
    """Return more requests than our server answers in a whole comparison, the warm-up among it."""
    measurements = 1 + len(CONNECTIONS) * bench.rounds
    return round(measurements * max(1.0, bench.seconds) * ROWS_PER_SECOND[model])
