"""Options of tests that a program starts, which knows the addresses of its servers."""

from __future__ import annotations

import pytest


def option(config: pytest.Config, name: str, target: str) -> str:
    """Return an option; end the run, naming the target of make that gives it, where it is not there."""
    value = config.getoption(f"--{name}")
    if not isinstance(value, str):
        raise pytest.UsageError(f"--{name} is missing: run make {target}")
    return value
