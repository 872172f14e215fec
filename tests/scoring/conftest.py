"""Run `python -m scoring` as a process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import run_python

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def scoring(store: Path) -> Run:
    """Return a function that runs `python -m scoring` with arguments and returns the ended process.

    It takes the options of `subprocess.run`, too.
    """

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_python(store, "-m", "scoring", *map(str, arguments), **options)

    return run
