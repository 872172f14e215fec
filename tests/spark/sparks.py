"""Spark's processes on this machine: their environment, a standalone master with workers, spark-submit."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

WAIT_SECONDS = 180
BIN = Path(sys.executable).parent
# Compiled quickly rather than well, since none of these processes lives long.
JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


class Cluster(NamedTuple):
    """A standalone master's address, and its workers' processes."""

    url: str
    workers: list[subprocess.Popen[bytes]]


def set_environment(folder: Path) -> dict[str, str]:
    """Return variables by which Spark stays on this machine, leaves its files in a folder, and uses this Python."""
    return {
        "BENTOML_HOME": str(folder / "bentoml"),
        "JAVA_TOOL_OPTIONS": JAVA,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": "",
        "SPARK_LOCAL_DIRS": str(folder / "local"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(folder / "work"),
    }


@contextlib.contextmanager
def standalone(folder: Path) -> Iterator[Cluster]:
    """Start a master and two workers of a core each; end them by their ids."""
    with contextlib.ExitStack() as stack:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"spark://127.0.0.1:{port}"

        def start(kind: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((folder / f"{kind}.log").open("ab"))
            command: list[str | Path] = [
                BIN / "spark-class",
                f"org.apache.spark.deploy.{kind.lower()}.{kind}",
                "--host",
                "127.0.0.1",
            ]
            options = ["--webui-port", "0", *arguments]
            environment = {**os.environ, **set_environment(folder)}
            process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
            stack.callback(end, process)
            return process

        start("Master", "--port", str(port))
        wait_until(lambda: answers(port), "the master listens")
        yield Cluster(url, [start("Worker", "--cores", "1", "--memory", "1g", url) for _ in range(2)])


def submit(folder: Path, master: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start spark-submit with scoring/spark.py; `arguments` of spark-submit itself come first, up to `--model`."""
    place = arguments.index("--model")
    command: list[str | Path] = [BIN / "spark-submit", "--master", master, "--conf", "spark.ui.enabled=false"]
    return subprocess.Popen(
        [*command, *arguments[:place], ROOT / "scoring" / "spark.py", *arguments[place:]],
        cwd=folder,
        env={**os.environ, **set_environment(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(port: int) -> bool:
    """Return whether a port of this machine is listened at."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds; fail with what it is after WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and wait for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
