"""Run the code that the page shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PYTHON = [sys.executable, "-c"]
LANGUAGES = {
    "curl": ["sh", "-c"],
    "Python": PYTHON,
    "JavaScript": ["node", "--input-type=module", "-e"],
    "tritonclient": PYTHON,
}


def run(language: str, code: str, folder: Path, **env: str) -> str:
    """Run code in a folder and return what it prints; fail where it fails."""
    done = subprocess.run(
        [*LANGUAGES[language], code],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
