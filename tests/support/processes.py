"""Run Python with a BentoML home that belongs to the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import ROOT


def train(home: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `python -m training` with the BentoML home `home`."""
    return run_python(home, "-m", "training", *arguments, cwd=cwd)


def run_python(
    home: Path, *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run Python with the BentoML home `home` and other options of `subprocess.run`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "BENTOML_HOME": str(home), **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )
