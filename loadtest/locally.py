"""Run profiles one after another against a server of this checkout with one worker.

python -m loadtest.locally smoke sentiment --minutes 2

Exits with 1 if a profile missed an objective. Options that it does not know are passed to Locust.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from loadtest.processes import ROOT, free_port, store_home, tiffin
from loadtest.profiles import PROFILES


def main() -> int:
    """Start the server, run all profiles even if one fails, and name those that missed an objective."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.locally", description="Run profiles on an own server.")
    parser.add_argument("profile", nargs="+", choices=PROFILES)
    parser.add_argument("--minutes", type=float, help="length of each but smoke, instead of its own")
    given, options = parser.parse_known_args()
    home = store_home()
    missed = []
    grpc_port = free_port()
    with tiffin(home, grpc_port=grpc_port) as address:
        for profile in given.profile:
            command = [sys.executable, "-m", "locust", "--locustfile", "loadtest/locustfile.py"]
            command += ["--headless", "--only-summary", "--profile", profile, "--host", address]
            command += ["--grpc-target", f"127.0.0.1:{grpc_port}", *options]
            if given.minutes and profile != "smoke":
                command += ["--minutes", str(given.minutes)]
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                missed.append(profile)
    print(f"missed: {', '.join(missed)}" if missed else f"met: {', '.join(given.profile)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
