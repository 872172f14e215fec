"""Redis server processes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from loadtest.processes import free_port, redis_program
from tests.support.clocks import START_SECONDS, wait_until


class RedisServer:
    """A redis-server process on the loopback interface, which can be restarted on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        while self.port > 2**16 - 1 - 10_000:  # a cluster node also listens on its port + 10,000
            self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start the process with an empty database; return when it answers."""
        command = [redis_program(), *options, "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self.folder / f"redis-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                # redis-server takes a configuration file, if any, as its first argument.
                [*command, "--dir", str(self.folder), "--save", "", "--appendonly", "no"],
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, START_SECONDS)

    def answers(self) -> bool:
        """Return whether Redis answers PING, even if only to demand a password."""
        try:
            return self.execute("PING") is True
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def execute(self, *command: str | bytes | int) -> Any:
        """Execute a command and return the reply."""
        with redis.Redis(port=self.port, socket_timeout=START_SECONDS, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def freeze(self) -> None:
        """Suspend the process: it keeps its connections and answers nothing."""
        assert self.process is not None
        psutil.Process(self.process.pid).suspend()

    def thaw(self) -> None:
        """Resume the process."""
        assert self.process is not None
        psutil.Process(self.process.pid).resume()

    def stop(self) -> None:
        """Kill the process if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(START_SECONDS)
            self.process = None
