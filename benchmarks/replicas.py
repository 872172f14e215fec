"""Send 10 000 users to one container and to three behind a balancer, each held to a quarter of a core.

python -m benchmarks.replicas [--servers 1,3] [--profiles ramp,rush] [--cpus 0.25]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtest.processes import ROOT, START_SECONDS, free_port
from loadtest.profiles import PROFILES

ENGINE = os.environ.get("BACKEND") or "docker"
IMAGE = os.environ.get("IMAGE") or "tiffin:latest"
BALANCER_IMAGE = "docker.io/library/haproxy:2.6"
PORT = 3000
# What the manifests allow a server.
MEMORY = "2g"
REFUSED = ("status 429", "status 503")
BALANCER = """\
defaults
  mode http
  maxconn 8000
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen tiffin
  bind :{port}
  balance leastconn
  option httpchk GET /readyz
{servers}
"""
# The CPU time of a container's control group, of version 2 in microseconds or 1 in nanoseconds.
CPU_TIME = "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || echo usage_nsec $(cat /sys/fs/cgroup/cpuacct/cpuacct.usage)"


class CommandError(RuntimeError):
    """A command of the container engine or Locust failed."""


@dataclass(frozen=True)
class Outcome:
    """What Locust found; refusals are 429 and 503, times are in seconds, and `cores` has what each server used."""

    requests: int
    refused: int
    failed: int
    p50: float
    p99: float
    peak_rate: float
    cores: list[float]
    met: bool


def engine(*arguments: str) -> str:
    """Run a command of the container engine and return its output; raise CommandError if it fails."""
    done = subprocess.run([ENGINE, *arguments], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    if done.returncode:
        raise CommandError(f"{ENGINE} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def container(image: str, *options: str, command: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Run a container that listens on PORT; yield its id and the address at which this machine reaches it."""
    port = free_port()
    started = engine("run", "--detach", "--publish", f"127.0.0.1:{port}:{PORT}", *options, image, *command)
    try:
        yield started, f"http://127.0.0.1:{port}"
    finally:
        engine("rm", "--force", "--volumes", started)


def wait_until_ready(address: str) -> None:
    """Wait until a server answers /readyz with 200; raise CommandError after START_SECONDS."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz", timeout=5).is_success:
                return
        time.sleep(0.2)
    raise CommandError(f"{address} is not ready after {START_SECONDS} s")


@contextlib.contextmanager
def servers(count: int, cpus: float) -> Iterator[tuple[list[str], str]]:
    """Run so many servers, behind a balancer if there are several; yield their ids and the address of the whole."""
    limits = ["--cpus", str(cpus), "--memory", MEMORY, "--env", "TIFFIN_MODELS=segmentation"]
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(container(IMAGE, *limits)) for _ in range(count)]
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(wait_until_ready, [address for _, address in started]))
        names = [name for name, _ in started]
        if count == 1:
            yield names, started[0][1]
            return
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        addresses = [engine("inspect", "--format", template, name) for name in names]
        lines = [f"  server s{number} {address}:{PORT} check" for number, address in enumerate(addresses)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        (folder / "haproxy.cfg").write_text(BALANCER.format(port=PORT, servers="\n".join(lines)), encoding="utf-8")
        options = ("--volume", f"{folder}:/etc/tiffin:ro,Z")
        command = ["haproxy", "-f", "/etc/tiffin/haproxy.cfg"]
        _, address = stack.enter_context(container(BALANCER_IMAGE, *options, command=command))
        wait_until_ready(address)
        yield names, address


def cpu_seconds(name: str) -> float:
    """Return the CPU time that a container has used."""
    unit, value = engine("exec", name, "sh", "-c", CPU_TIME).split()[:2]
    return int(value) / {"usage_usec": 1e6, "usage_nsec": 1e9}[unit]


def send(profile: str, address: str, names: Sequence[str], options: Sequence[str]) -> Outcome:
    """Send a profile's load by Locust and return what it found."""
    with tempfile.TemporaryDirectory() as reports:
        command = [sys.executable, "-m", "locust", "--locustfile", "loadtest/locustfile.py", "--headless"]
        command += ["--only-summary", "--profile", profile, "--host", address, "--reports", reports, *options]
        before, started = [cpu_seconds(name) for name in names], time.monotonic()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode not in (0, 1):  # 1: an objective was missed
            raise CommandError(f"Locust ended with {done.returncode}")
        seconds = time.monotonic() - started
        cores = [(cpu_seconds(name) - used) / seconds for name, used in zip(names, before, strict=True)]
        folder = Path(reports) / profile
        found = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["measured"]
        with (folder / "failures.csv").open(newline="", encoding="utf-8") as file:
            failures = [(row["Error"], int(row["Occurrences"])) for row in csv.DictReader(file)]
        with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
            rates = [float(row["rate"]) for row in csv.DictReader(file)]
    refused = sum(count for error, count in failures if any(status in error for status in REFUSED))
    failed = sum(count for _, count in failures) - refused
    return Outcome(
        found["requests"], refused, failed, found["p50"], found["p99"], max(rates), cores, done.returncode == 0
    )


def numbers(text: str) -> list[int]:
    """Parse whole numbers with commas between."""
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what each number of servers did with each load; options that are not known here are passed to Locust."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replicas", description=__doc__)
    parser.add_argument("--servers", type=numbers, default=[1, 3], help="how many, with commas between")
    parser.add_argument("--profiles", type=lambda text: text.split(","), default=["ramp", "rush"])
    parser.add_argument("--cpus", type=float, default=0.25, help="cores of each server")
    given, options = parser.parse_known_args(arguments)
    print("| users | servers | requests | refused | failed | p50, s | p99, s | requests/s at most | cores used | |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for profile in given.profiles:
        for count in given.servers:
            try:
                with servers(count, given.cpus) as (names, address):
                    found = send(profile, address, names, options)
            except CommandError as error:
                print(error, file=sys.stderr)
                return 1
            cells = [
                PROFILES[profile].summary,
                count,
                f"{found.requests:,}",
                f"{found.refused / max(found.requests, 1):.1%}",
                f"{found.failed / max(found.requests, 1):.1%}",
                f"{found.p50:.3f}",
                f"{found.p99:.3f}",
                f"{found.peak_rate:,.0f}",
                ", ".join(f"{cores:.2f}" for cores in found.cores),
                "holds" if found.met else "does not hold",
            ]
            print("|", " | ".join(map(str, cells)), "|", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
