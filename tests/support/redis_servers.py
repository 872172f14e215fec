"""Redis, as a process."""

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
    """A redis-server process on the loopback interface, which can be started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        while self.port > 2**16 - 1 - 10_000:  # a cluster's node also listens on the port greater by 10,000
            self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start it with an empty database; return when it answers."""
        command = [redis_program(), *options, "--port", str(self.port), "--bind", "127.0.0.1"]
        with (self.folder / f"redis-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                # The configuration file, where there is one, comes first.
                [*command, "--dir", str(self.folder), "--save", "", "--appendonly", "no"],
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, START_SECONDS)

    def answers(self) -> bool:
        """Whether it answers, if only that it wants a password."""
        try:
            return self.ask("PING") is True
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def ask(self, *command: str | bytes | int) -> Any:
        """The reply to a command."""
        with redis.Redis(port=self.port, socket_timeout=START_SECONDS, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def freeze(self) -> None:
        """Let it keep its connections and answer nothing."""
        assert self.process is not None
        psutil.Process(self.process.pid).suspend()

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        psutil.Process(self.process.pid).resume()

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(START_SECONDS)
            self.process = None
