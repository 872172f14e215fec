"""The load generator wrk: a closed loop over a number of connections."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from loadtest.processes import MissingToolError

# wrk's own figures leave out errors by status, each of which makes a measurement void.
WRK_SCRIPT = """
local bodies = {}
local file = io.open("%(bodies)s", "rb")
for length in file:lines() do bodies[#bodies + 1] = file:read(tonumber(length)) end
local at = %(first)d
wrk.method = "POST"
wrk.headers["Content-Type"] = "%(content_type)s"
request = function()
  at = at + 1
  return wrk.format(nil, "%(path)s", nil, bodies[(at - 1) %% #bodies + 1])
end
done = function(summary, latency)
  io.write(string.format('{"requests": %%d, "seconds": %%f, "failed": %%d, "p50": %%f, "p99": %%f}\\n',
    summary.requests, summary.duration / 1e6,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6))
end
"""


class NoAnswerError(RuntimeError):
    """A measurement ended before the first answer."""


@dataclass(frozen=True)
class Load:
    """What a load generator measured: requests answered per second, median and 99th percentile of latency in seconds.

    `cpu_seconds` is the CPU time that the generator itself took.
    """

    requests: int
    per_second: float
    p50: float
    p99: float
    cpu_seconds: float


def wrk_program() -> str:
    """Return the path of wrk; raise MissingToolError if it is not installed."""
    program = shutil.which("wrk")
    if program is None:
        raise MissingToolError("wrk is missing: apt-get install wrk, or brew install wrk")
    return program


def write_bodies(path: Path, bodies: Iterable[bytes]) -> Path:
    """Write a file of bodies for `wrk` and return its path: each body, of any bytes, follows a line with its length."""
    with path.open("wb") as file:
        for body in bodies:
            file.write(b"%d\n%b" % (len(body), body))
    return path


def wrk(
    address: str,
    path: str,
    bodies: Path,
    connections: int,
    seconds: float,
    first: int = 0,
    content_type: str = "application/json",
) -> Load:
    """Load a server in a closed loop for whole seconds, with the bodies of a file (see `write_bodies`) from `first` on.

    Raises RuntimeError when a request was not answered with success, NoAnswerError when none was answered.
    """
    program = wrk_program()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK_SCRIPT % {"bodies": bodies, "first": first, "path": path, "content_type": content_type})
        script.flush()
        command = [
            program,
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            "--timeout",
            "15s",
            "-s",
            script.name,
            address,
        ]
        import resource  # Windows has neither wrk nor this

        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    match = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"wrk said: {done.stdout}{done.stderr}")
    found = json.loads(match[0])
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} of {found['requests']} requests to {path} failed:\n{done.stdout}")
    if not found["requests"]:
        raise NoAnswerError(f"no request to {path} was answered within {seconds:g} s")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(found["requests"], found["requests"] / found["seconds"], found["p50"], found["p99"], cpu_seconds)
