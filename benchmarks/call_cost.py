"""The CPU time that a call costs the server, by protocol, against a bare gRPC server that runs the same graph."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil

from benchmarks.compare.assets import entry
from benchmarks.compare.servers import Server, tiffin
from benchmarks.grpc_load import grpc_load
from benchmarks.speed_bench import SpeedBench, say
from benchmarks.wrk import Load, write_bodies, wrk
from loadtest import inputs
from loadtest.inputs import Request
from loadtest.messages import MODEL_INFER
from loadtest.processes import ROOT, free_port
from loadtest.protocols import GRPC, PREDICT, PROTOCOLS, encoded

MODEL = "breast_cancer"
CONNECTIONS = 10
# More calls than a server answers in a second, so that no row is sent twice.
CALLS_PER_SECOND = 8_000
# Between the numbers of the rows of two protocols, which know each other's answers.
APART = 100_000_000


@contextlib.contextmanager
def bare_server(folder: Path, response: bytes, graph: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start a bare gRPC server with this response and this graph; yield its HOST:PORT and its process."""
    file = folder / "response"
    file.write_bytes(response)
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.grpc_echo", str(port), str(file), str(graph)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None or not process.stdout.readline():
                raise RuntimeError(f"the bare gRPC server ended with {process.wait()}")
            yield f"127.0.0.1:{port}", psutil.Process(process.pid)
        finally:
            process.terminate()


def requests_by(protocol: str) -> Callable[[int], Request]:
    """Return what makes the request of a number, whose row no other protocol has."""
    made = inputs.REQUESTS[MODEL] if protocol == PREDICT else encoded(protocol, MODEL, inputs.TENSORS[MODEL])
    first = (1 + PROTOCOLS.index(protocol)) * APART
    return lambda number: made(first + number)


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time that a process has used so far."""
    return float(sum(process.cpu_times()[:2]))


def call_cost(bench: SpeedBench) -> None:
    """Compare the CPU time of a call by each protocol with that of a bare gRPC server that runs the same graph."""
    count = round((bench.rounds + 1) * bench.seconds * CALLS_PER_SECOND)
    files = {
        protocol: write_bodies(bench.folder / f"calls-{protocol}", map(requests_by(protocol), range(count)))
        for protocol in PROTOCOLS
    }
    example = requests_by(GRPC)(count)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(tiffin(bench.home, inputs.REQUESTS[MODEL](0), MODEL))
        with grpc.insecure_channel(server.grpc_target) as channel:
            response = channel.unary_unary(MODEL_INFER)(example.body)
        graph = entry(bench.home, MODEL) / "model.onnx"
        target, process = stack.enter_context(bare_server(bench.folder, response, graph))

        def bare() -> float:
            before = cpu_seconds(process)
            calls = grpc_load(target, files[GRPC], CONNECTIONS, bench.seconds).requests
            return (cpu_seconds(process) - before) / calls

        bare()
        for protocol in PROTOCOLS:
            used = load(server, protocol, files[protocol], bench.seconds, 0).requests

            def measure(_: int, protocol: str = protocol) -> tuple[float, float]:
                nonlocal used
                before = server.cpu_seconds()
                calls = load(server, protocol, files[protocol], bench.seconds, used).requests
                ours = (server.cpu_seconds() - before) / calls
                used += calls
                return ours, bare()

            ratio, a, b = bench.ratio(measure)
            detail = f"{1e6 * a:,.0f} : {1e6 * b:,.0f} µs of CPU for a call"
            say(f"{MODEL}, a new row by {protocol}", ratio, "x bare gRPC with the inference", detail)
            if used + CONNECTIONS > count:
                raise RuntimeError("rows were sent twice: raise CALLS_PER_SECOND")


def load(server: Server, protocol: str, bodies: Path, seconds: float, first: int) -> Load:
    """Load the server by a protocol with the bodies of a file from `first` on."""
    if protocol == GRPC:
        return grpc_load(server.grpc_target, bodies, CONNECTIONS, seconds, first)
    request = requests_by(protocol)(0)
    return wrk(server.address, request.path, bodies, CONNECTIONS, seconds, first, request.content_type)
