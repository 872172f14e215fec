"""Start servers and run the tests of this folder against them, in the browser's environment.

Run as `python -m tests.browser PYTHON [ARGUMENT...]`: PYTHON is that of the browser's environment, ARGUMENTs are those
of pytest. `--screenshots` among them writes the pictures of docs/.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from loadtest.processes import tiffin
from tests.support import ROOT
from tests.support.stores import shipped_store

FOLDER = "tests/browser"
KEY = "secret"
PREFIX = "/project"
# Few enough to be used up by hand, and more than the tests before that one send.
RATE_LIMIT = "60/minute"


def main(python: str, arguments: list[str]) -> int:
    """Run the tests and return pytest's exit code."""
    home = shipped_store()
    with (
        tempfile.TemporaryDirectory() as jobs,
        tiffin(home, job_store=jobs) as url,
        tiffin(home, api_keys=KEY, rate_limit=RATE_LIMIT, root_path=PREFIX, models="breast_cancer") as guarded,
    ):
        options = [f"--server={url}", f"--guarded={guarded}{PREFIX}/", f"--key={KEY}"]
        command = [python, "-m", "pytest", "--confcutdir", FOLDER, FOLDER, *options, *arguments]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
