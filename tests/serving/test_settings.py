"""The settings and their table in the README."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

import models
from serving.settings import Settings
from tests.conftest import ROOT


def test_every_setting_stands_in_the_readme_with_its_description() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]* \| ([^|]*) \|$", readme, re.MULTILINE))
    assert rows == {name.upper(): field.description for name, field in Settings.model_fields.items()}


def test_all_models_are_served_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "")
    assert Settings().models == models.names()


def test_models_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "sentiment, image,")
    assert Settings().models == ["sentiment", "image"]


def test_an_unknown_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS", "sentiment,nonsense")
    with pytest.raises(ValidationError, match="no model 'nonsense'; models/ has breast_cancer"):
        Settings()


@pytest.mark.parametrize(("name", "value"), [("WORKERS", "0"), ("TIMEOUT_SECONDS", "-1"), ("ACCESS_LOG", "perhaps")])
def test_a_bad_value_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
