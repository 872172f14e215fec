"""The load generator wrk: a closed loop over a number of connections."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.inputs import Request
from loadtest.processes import ROOT, MissingToolError
from loadtest.tensors import HEADER_LENGTH

# wrk's own figures leave out errors by status, each of which makes a measurement void.
WRK_SCRIPT = """
local bodies, json_lengths = {}, {}
local file = io.open("%(bodies)s", "rb")
for line in file:lines() do
  local length, json_length = line:match("(%%d+) ?(%%d*)")
  bodies[#bodies + 1] = file:read(tonumber(length))
  json_lengths[#bodies] = json_length ~= "" and json_length or nil
end
local at = %(first)d
wrk.method = "POST"
wrk.headers["Content-Type"] = "%(content_type)s"
request = function()
  local place = at %% #bodies + 1
  at = at + 1
  wrk.headers["%(header_length)s"] = json_lengths[place]
  return wrk.format(nil, "%(path)s", nil, bodies[place])
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


def write_bodies(path: Path, requests: Iterable[Request]) -> Path:
    """Write a file of the bodies of requests for a load generator and return its path.

    Each body, of any bytes, follows a line with its length, and how much of it is JSON where binary tensors follow.
    """
    with path.open("wb") as file:
        for request in requests:
            json_bytes = b"" if request.json_bytes is None else b" %d" % request.json_bytes
            file.write(b"%d%b\n%b" % (len(request.body), json_bytes, request.body))
    return path


def run_generator(command: Sequence[str], seconds: float, target: str) -> Load:
    """Run a load generator for so many seconds and return what it measured: a line of JSON that it prints.

    Its CPU time counts from its start, unless it prints what it has taken itself. Raises RuntimeError when a request to
    the target was not answered with success, NoAnswerError when none was answered.
    """
    import resource  # Windows has neither wrk nor this

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=seconds + 60, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    match = re.search(r"^\{.*\}$", done.stdout, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"{command[0]} said: {done.stdout}{done.stderr}")
    found = json.loads(match[0])
    if found["failed"]:
        raise RuntimeError(f"{found['failed']} of {found['requests']} requests to {target} failed:\n{done.stdout}")
    if not found["requests"]:
        raise NoAnswerError(f"no request to {target} was answered within {seconds:g} s")
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    cpu_seconds = found.get("cpu_seconds", whole)
    return Load(found["requests"], found["requests"] / found["seconds"], found["p50"], found["p99"], cpu_seconds)


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
        values = {"bodies": bodies, "first": first, "path": path, "content_type": content_type}
        script.write(WRK_SCRIPT % {**values, "header_length": HEADER_LENGTH})
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
        return run_generator(command, seconds, path)
