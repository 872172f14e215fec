"""The settings and their table in docs/operate.md."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from limits import parse
from pydantic import ValidationError

import models
from serving.settings import Settings, available_cores
from tests.conftest import ROOT


def test_every_setting_stands_in_the_docs_with_its_description() -> None:
    page = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| [^|]* \| ([^|]*) \|$", page, re.MULTILINE))
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


def test_api_keys_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "one, two,")
    assert Settings().api_keys == ["one", "two"]


def test_no_key_is_needed_by_default() -> None:
    settings = Settings()
    assert (settings.api_keys, settings.api_keys_file) == ([], None)


def test_a_file_of_keys_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("API_KEYS_FILE", str(tmp_path / "absent"))
    with pytest.raises(ValidationError, match="absent cannot be read: No such file"):
        Settings()


def test_a_file_of_keys_that_can_be_read_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("secret\n")
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    assert Settings().api_keys_file == file


def test_a_rate_limit_has_a_number_and_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT", "100/minute")
    assert Settings().rate_limit == parse("100 per minute")


def test_a_rate_limit_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT", "often")
    with pytest.raises(ValidationError, match="rate_limit"):
        Settings()


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
    ids=["none", "2-unlimited", "2", "2-one-and-a-half", "2-half", "2-more-than-bound", "1-unlimited", "1"],
)
def test_cores_are_those_of_the_cgroup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_cores(tmp_path) == cores
