"""Settings that are not valid."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serving.setting_faults import faults
from serving.settings import Settings


def wrong(monkeypatch: pytest.MonkeyPatch, **variables: str) -> list[str]:
    """Return the messages about environment variables that are not valid."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as caught:
        Settings()
    return faults(caught.value)
