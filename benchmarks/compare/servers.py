"""Servers, one at a time on the machine: started, measured as a tree of processes, ended to the last process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.compare import environments
from benchmarks.compare.assets import FOLDER
from loadtest.inputs import Request
from loadtest.processes import ROOT, free_port, redis, tiffin_command

START_SECONDS = 600
STOP_SECONDS = 15
SETTLE_SECONDS = 15
# Share of the cores that other programs may use while we measure.
IDLE = 0.05


@dataclass(frozen=True)
class Command:
    """How a server is started."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path


@dataclass
class Server:
    """A server that has answered its first request, `cold_start_seconds` after its start.

    `grpc_target` is HOST:PORT of gRPC, empty where it has none.
    """

    address: str
    process: psutil.Process
    cold_start_seconds: float
    redis: psutil.Process | None
    grpc_target: str = ""

    def tree(self) -> list[psutil.Process]:
        """Return its processes, without Redis."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU time that its processes have used so far."""
        return float(sum(sum(process.cpu_times()[:2]) for process in self.tree()))

    def settle(self) -> None:
        """Wait until it has finished the work of the last load: servers compute for clients that are gone, too."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before < 0.05:
                return

    def memory_bytes(self) -> int:
        """Return the memory of its processes, without Redis; what some of them share counts once."""
        return sum(memory_bytes(process) for process in self.tree())

    def redis_bytes(self) -> int:
        """Return the memory of its Redis, 0 if it has none."""
        return memory_bytes(self.redis) if self.redis else 0


def memory_bytes(process: psutil.Process) -> int:
    """Return the proportional set size on Linux, elsewhere the resident set, which counts shared memory per process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if sys.platform == "linux":
            return int(process.memory_full_info().pss)
        return int(process.memory_info().rss)
    return 0


def wait_until_idle(limit_seconds: float) -> float:
    """Wait until the machine is idle, and return the share of the cores that other programs still use.

    With a limit of 0, do not wait at all.
    """
    if not limit_seconds:
        return 0.0
    deadline = time.monotonic() + limit_seconds
    while True:
        busy = float(psutil.cpu_percent(interval=2)) / 100
        if busy <= IDLE:
            return busy
        if time.monotonic() > deadline:
            print(f"others use {busy:.0%} of the machine: the figures will be worth nothing", file=sys.stderr)
            return busy


@contextlib.contextmanager
def serving(command: Command, port: int, example: Request, redis_url: str = "") -> Iterator[Server]:
    """Start a server and wait for its answer to `example`; raise RuntimeError with its log if there is none.

    At the end, the whole process group is killed, since LitServe's workers outlive SIGTERM.
    """
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        env = {**os.environ, **command.env}
        started = time.perf_counter()
        process = subprocess.Popen(
            command.command, cwd=command.cwd, env=env, stdout=log, stderr=log, start_new_session=True
        )
        server = Server(address, psutil.Process(process.pid), 0, listener(redis_url))
        try:
            with httpx.Client(timeout=30) as client:
                while not answered(client, address, example):
                    if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                        log.seek(0)
                        tail = log.read().decode(errors="replace")[-5000:]
                        raise RuntimeError(f"{' '.join(command.command)} does not answer:\n{tail}")
                    time.sleep(0.02)
            server.cold_start_seconds = time.perf_counter() - started
            yield server
        finally:
            end(process, server)


def answered(client: httpx.Client, address: str, request: Request) -> bool:
    """Return whether a request is answered with success."""
    headers = {"Content-Type": request.content_type}
    with contextlib.suppress(httpx.TransportError):
        return client.post(address + request.path, content=request.body, headers=headers).is_success
    return False


def end(process: subprocess.Popen[bytes], server: Server) -> None:
    """End a process and all that it has started."""
    children = []
    with contextlib.suppress(psutil.NoSuchProcess):
        children = server.process.children(recursive=True)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=STOP_SECONDS)


def listener(redis_url: str) -> psutil.Process | None:
    """Return the Redis server at an address: the child of this process whose title names the address."""
    place = redis_url.removeprefix("redis://")
    return next((child for child in psutil.Process().children() if place and place in " ".join(child.cmdline())), None)


@contextlib.contextmanager
def redis_if(wanted: bool) -> Iterator[str]:
    """Start a Redis server if it is wanted, and yield its URL, otherwise an empty string."""
    if not wanted:
        yield ""
        return
    with redis() as url:
        yield url


# How each peer is started, given its interpreter, its port and a folder of its own.
PEERS: dict[str, Callable[[str, int, Path], Command]] = {}


def uvicorn(app: str) -> Callable[[str, int, Path], Command]:
    """Return how to start a FastAPI application, as FastAPI's documentation deploys it."""
    return lambda python, port, own: Command(
        [python, "-m", "uvicorn", f"{app}:app", "--port", str(port), "--no-access-log"], {}, environments.PEERS
    )


def litserve(python: str, port: int, own: Path) -> Command:
    """Return how to start a LitServe script."""
    return Command([python, "litserve_text.py"], {"PORT": str(port)}, environments.PEERS)


def bentoml(python: str, port: int, own: Path) -> Command:
    """Return how to start a BentoML service with a home of its own."""
    serve = [python, "-m", "bentoml", "serve", "bentoml_text:TextClassifier", "--host", "127.0.0.1"]
    env = {"BENTOML_HOME": str(own), "BENTOML_DO_NOT_TRACK": "True"}
    return Command([*serve, "--port", str(port)], env, environments.PEERS)


def mlserver(name: str, implementation: str) -> Callable[[str, int, Path], Command]:
    """Return how to start MLServer with a model, after writing the settings files that it reads into its folder."""

    def command(python: str, port: int, own: Path) -> Command:
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": free_port(),
            "metrics_port": free_port(),
            "metrics_dir": str(own),
            "environments_dir": str(own / "environments"),
        }
        model = {
            "name": name,
            "implementation": implementation,
            # The limits that engine.py sets.
            "max_batch_size": 8,
            "max_batch_time": 0.002,
        }
        (own / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        (own / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
        start = [str(Path(python).parent / "mlserver"), "start", str(own)]
        return Command(start, {"PYTHONPATH": str(environments.PEERS)}, own)

    return command


PEERS |= {
    "fastapi_text": uvicorn("fastapi_text"),
    "fastapi_tabular": uvicorn("fastapi_tabular"),
    "fastapi_image": uvicorn("fastapi_image"),
    "litserve_text": litserve,
    "bentoml_text": bentoml,
    "mlserver_text": mlserver("sentiment", "mlserver_text.TextClassifier"),
    "mlserver_tabular": mlserver("breast_cancer", "mlserver_tabular.TumourClassifier"),
}


@contextlib.contextmanager
def tiffin(
    home: Path,
    example: Request,
    models: str,
    *,
    with_redis: bool = False,
    cores: Sequence[int] = (),
    **settings: object,
) -> Iterator[Server]:
    """Start Tiffin with one worker, these settings and its defaults, on all cores unless some are named."""
    port, grpc_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, redis_if(with_redis) as url:
        given = {"models": models, "redis_url": url, "grpc_port": grpc_port, **settings}
        # The server treats an empty setting as one that is not set.
        command, env = tiffin_command(home, Path(folder), port, cores, **given)
        with serving(Command(command, env, ROOT), port, example, url) as server:
            server.grpc_target = f"127.0.0.1:{grpc_port}"
            yield server


@contextlib.contextmanager
def peer(name: str, engine: str, model: Path, example: Request) -> Iterator[Server]:
    """Start a peer with this engine and model; FastAPI's text classifier gets a Redis."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, redis_if(name == "fastapi_text") as url:
        made = PEERS[name](str(environments.python(name)), port, Path(folder))
        # HF_HOME is where transformers copies the code of a model that brings its own.
        env = {"ENGINE": engine, "MODEL": str(model), "HF_HOME": str(FOLDER / "hub"), "HF_HUB_OFFLINE": "1"}
        if url:
            env["REDIS_URL"] = url
        with serving(Command(made.command, {**made.env, **env}, made.cwd), port, example, url) as server:
            yield server
