"""The load generator of gRPC: calls of ModelInfer in a closed loop, each over a connection of its own.

It is written in Python and takes about as much of a core as a server does for a small answer. What a call costs a
server is therefore to be read from the server's CPU time, or where the generator has cores of its own.

python -m benchmarks.grpc_load TARGET BODIES CONNECTIONS SECONDS FIRST
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np

from benchmarks.wrk import Load, run_generator
from loadtest.grpc_client import OPTIONS
from loadtest.messages import MODEL_INFER

TIMEOUT_SECONDS = 15


def grpc_load(target: str, bodies: Path, connections: int, seconds: float, first: int = 0) -> Load:
    """Load a server as `benchmarks.wrk.wrk` does, with the messages of a file (see `write_bodies`) from `first` on."""
    arguments = map(str, (target, bodies, connections, seconds, first))
    return run_generator([sys.executable, "-m", "benchmarks.grpc_load", *arguments], seconds, MODEL_INFER)


def read_bodies(path: Path) -> list[bytes]:
    """Return the bodies of a file."""
    found = []
    with path.open("rb") as file:
        while line := file.readline():
            found.append(file.read(int(line.split()[0])))
    return found


async def generate(target: str, bodies: Sequence[bytes], connections: int, seconds: float, first: int) -> None:
    """Call the server over all connections until the end, and print what `run_generator` reads."""
    took: list[float] = []
    failed: list[str] = []
    places = iter(range(first, sys.maxsize))
    started, cpu_before = time.perf_counter(), time.process_time()

    async def call_again_and_again() -> None:
        async with grpc.aio.insecure_channel(target, OPTIONS) as channel:
            infer = channel.unary_unary(MODEL_INFER)
            while (sent := time.perf_counter()) < started + seconds:
                try:
                    await infer(bodies[next(places) % len(bodies)], timeout=TIMEOUT_SECONDS)
                except grpc.RpcError as error:
                    failed.append(f"{error.code().name}: {error.details()}")
                took.append(time.perf_counter() - sent)

    await asyncio.gather(*(call_again_and_again() for _ in range(connections)))
    lasted, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_before
    p50, p99 = np.quantile(took or [0.0], (0.5, 0.99))
    found = {"requests": len(took), "seconds": lasted, "failed": len(failed), "p50": p50, "p99": p99}
    print(*sorted(set(failed))[:5], sep="\n")
    print(json.dumps({**found, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    _, target, bodies, connections, seconds, first = sys.argv
    asyncio.run(generate(target, read_bodies(Path(bodies)), int(connections), float(seconds), int(first)))
