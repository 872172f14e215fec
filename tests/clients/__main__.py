"""Start servers and run the tests of this folder against them, in the clients' environment.

Run as `python -m tests.clients PYTHON [ARGUMENT...]`: PYTHON is that of the clients' environment, ARGUMENTs are those
of pytest.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from loadtest.processes import free_port, tiffin
from tests.support import ROOT
from tests.support.stores import put_versions, shipped_store

FOLDER = "tests/clients"
KSERVE = f"{FOLDER}/test_kserve.py"
# In a process of its own: the messages that the packages of two clients have generated cannot be in one.
SUITES = [[FOLDER, f"--ignore={KSERVE}"], [KSERVE]]
KEY = "secret"
# pytest's: no test was selected.
NONE_SELECTED = 5


def main(python: str, arguments: list[str]) -> int:
    """Run all suites and return the exit code of the first that fails, or 0."""
    grpc, guarded_grpc = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder, started(shipped_store(), grpc) as url:
        home, entries = Path(folder, "home"), Path(folder, "entries")
        home.mkdir()
        newest = put_versions(home, entries)
        versions = f"breast_cancer:{newest},breast_cancer:opposite"
        with started(home, guarded_grpc, models=versions, api_keys=KEY, model_control=True) as guarded_url:
            options = [f"--server={url}", f"--server-grpc=127.0.0.1:{grpc}", f"--server-python={sys.executable}"]
            options += [f"--guarded={guarded_url}", f"--guarded-grpc=127.0.0.1:{guarded_grpc}", f"--key={KEY}"]
            for suite in SUITES:
                command = [python, "-m", "pytest", "--confcutdir", FOLDER, *suite, *options, *arguments]
                status = subprocess.run(command, cwd=ROOT, check=False).returncode
                if status not in (0, NONE_SELECTED):
                    return status
    return 0


def started(home: Path, grpc_port: int, **settings: Any) -> AbstractContextManager[str]:
    """Start a server that refuses nothing because the machine is busy; yield its URL."""
    return tiffin(home, grpc_port=grpc_port, timeout_seconds=120, queue_seconds=120, **settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
